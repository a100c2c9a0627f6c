import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { VivariumError } from '../../contracts/errors.ts'
import type { GuestImage } from '../../images/types.ts'
import { killMachineProcesses } from '../kill.ts'
import type { ProcessIdentity } from '../types.ts'
import { qemuArgs, SOCKETS, type Accelerator } from './args.ts'
import type { Qemu } from './host.ts'
import { kvmAccess } from './kvm-access.ts'
import { inheritedFd, launch } from './launch.ts'
import { Qmp } from './qmp.ts'
import { QemuVmm } from './vmm.ts'

/** QEMU's own start, before any guest code: milliseconds, unless the host is under heavy load. */
const MONITOR_DEADLINE_MS = 30_000
const EXIT_GRACE_MS = 2_000

/** Room for the log, and with a disk for what a qcow2 needs beside its data: less than a thousandth. */
const SPARE_BYTES = 64 * 1024 * 1024
const QCOW2_FACTOR = 1.01

export interface BootOptions {
  id: string
  accel: Accelerator
  qemu: Qemu
  image: GuestImage
  /** Null boots the kernel and its initramfs alone. */
  disks: { base: string; scratch: string } | null
  kernelArgs: string[]
  memoryMib: number
  vcpus: number
  runDir: string
  logPath: string
  uid: number | undefined
  dieWithParent: boolean
}

/**
 * Starts QEMU, reports its identity to `started`, and only then lets the guest run. Rejects with `engine_failed`, or with
 * the reason of `signal`; nothing is left running then.
 */
export async function bootQemu(
  options: BootOptions,
  started: (identity: ProcessIdentity) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<QemuVmm> {
  const { id, image, disks, runDir, uid } = options
  const { gid, devices } = options.accel === 'kvm' ? await kvmAccess(runDir, uid) : { gid: uid, devices: {} }
  signal?.throwIfAborted()
  const paths = [image.kernel, image.initrd, ...(disks === null ? [] : [image.root, disks.base])]
  const files = paths.map((path) => ({ path, writable: false }))
  const { identity, ended } = await launch({
    id,
    runDir,
    uid,
    gid,
    devices,
    program: options.qemu.path,
    logPath: options.logPath,
    dieWithParent: options.dieWithParent,
    maxFileBytes: SPARE_BYTES + (disks === null ? 0 : Math.ceil((await stat(disks.base)).size * QCOW2_FACTOR)),
    files: disks === null ? files : [...files, { path: disks.scratch, writable: true }],
    args: qemuArgs({
      id,
      accel: options.accel,
      version: options.qemu.version.number,
      memoryMib: options.memoryMib,
      vcpus: options.vcpus,
      kernelArgs: options.kernelArgs,
      kernelFd: inheritedFd(0),
      initrdFd: inheritedFd(1),
      disks: disks && { rootFd: inheritedFd(2), baseFd: inheritedFd(3), scratchFd: inheritedFd(4) },
    }),
  })
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => killMachineProcesses({ id, identity, uid }))
  await started(identity)
  const qmp = await connectMonitor(join(runDir, SOCKETS.monitor), ended, signal)
  const vmm = new QemuVmm({ id, identity, uid, runDir, qmp, ended })
  await qmp.execute('cont')
  cleanup.move()
  return vmm
}

async function connectMonitor(path: string, ended: Promise<string>, signal: AbortSignal | undefined): Promise<Qmp> {
  const failed = new AbortController()
  const fail = (why: string) => failed.abort(new VivariumError('engine_failed', `QEMU did not start: ${why}.`))
  void ended.then(fail)
  const timer = setTimeout(fail, MONITOR_DEADLINE_MS, `its monitor did not answer in ${MONITOR_DEADLINE_MS / 1000} s`)
  try {
    return await Qmp.connect(path, signal === undefined ? failed.signal : AbortSignal.any([failed.signal, signal]))
  } catch (error) {
    signal?.throwIfAborted()
    // A QEMU that ends closes its monitor a moment before we hear how it ended, which is what people want to know.
    await Promise.race([ended, sleep(EXIT_GRACE_MS)])
    throw failed.signal.aborted ? failed.signal.reason : error
  } finally {
    clearTimeout(timer)
  }
}
