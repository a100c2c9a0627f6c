import { chown, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { toVivariumError } from '../../contracts/errors.ts'
import { ownTag } from '../../files/owner.ts'
import type { GuestImage } from '../../images/types.ts'
import { lastLines } from '../console-text.ts'
import { makeReachable, removeIfEmpty } from '../folders.ts'
import { canLeaseUids, leaseUid } from '../uid-lease.ts'
import type { Accelerator } from './args.ts'
import type { Qemu } from './host.ts'
import { KVM } from './kvm-access.ts'
import type { ProbeOutcome } from './probe-memory.ts'
import { startQemu } from './start.ts'
import { endsWithin } from './vmm.ts'

/** What the guest's init prints and then powers off, when the kernel's command line says `vivarium.probe=1`. */
const MARKER = 'vivarium-probe: ok'

export interface BootProbeOptions {
  accel: Accelerator
  qemu: Qemu
  image: GuestImage
  /** Short folder in which the probe makes one of its own. */
  runDir: string
  /** How long a guest may take to its init. */
  deadlineMs: number
}

/**
 * Boots the image's kernel to its init, without disks. Nothing less proves that virtualisation works: a /dev/kvm can open,
 * even make a virtual machine, and still run no ordinary kernel. Rejects only when `signal` aborts.
 */
export async function bootProbe(options: BootProbeOptions, signal: AbortSignal | undefined): Promise<ProbeOutcome> {
  await using cleanup = new AsyncDisposableStack()
  const id = `probe-${await ownTag()}`
  const runDir = join(options.runDir, id)
  const logPath = join(options.runDir, `${id}.log`)
  const uid = (await canLeaseUids()) ? await leaseUid(new Set()) : undefined
  await makeReachable(options.runDir)
  // The doctor runs without an orchestrator, whose folder this is.
  cleanup.defer(() => removeIfEmpty(options.runDir))
  cleanup.defer(() => rm(runDir, { recursive: true, force: true }))
  cleanup.defer(() => rm(logPath, { force: true }))
  await mkdir(runDir, { mode: 0o700 })
  if (uid !== undefined) await chown(runDir, uid, uid)
  try {
    const vmm = await startQemu(
      {
        ...options,
        id,
        runDir,
        logPath,
        uid,
        diskDir: runDir, // never saved
        disks: null,
        memory: { kind: 'anonymous' },
        memoryFile: 'none',
        state: null,
        timeScale: 1,
        kernelArgs: ['vivarium.probe=1'],
        memoryMib: 512,
        vcpus: 1,
        dieWithParent: true,
      },
      async () => {},
      signal,
    )
    cleanup.defer(() => vmm.kill())
    const ended = await endsWithin(vmm, options.deadlineMs, signal)
    const console = await vmm.consoleTail()
    if (console.includes(MARKER)) return { works: true, reason: null }
    const how = ended ? `: ${await vmm.exited}` : ` within ${options.deadlineMs / 1000} s`
    return { works: false, reason: `${subject(options.accel)} a guest never reached its init${how}.${quote(console)}` }
  } catch (error) {
    signal?.throwIfAborted()
    return {
      works: false,
      reason: `${subject(options.accel)} no guest can be started. ${toVivariumError(error).message}`,
    }
  }
}

function subject(accel: Accelerator): string {
  return accel === 'kvm' ? `${KVM} exists but` : 'Under software emulation'
}

function quote(console: string): string {
  const lines = lastLines(console, 3)
  return lines === '' ? '' : ` Its console ends with: ${lines}`
}
