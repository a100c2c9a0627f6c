import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { VivariumError } from '../../contracts/errors.ts'
import type { GuestImage } from '../../images/types.ts'
import { killMachineProcesses } from '../kill.ts'
import type { ProcessIdentity } from '../types.ts'
import { incomingState, qemuArgs, SOCKETS, type Accelerator, type QemuMemory } from './args.ts'
import type { ScratchLayers } from './disks.ts'
import type { Qemu } from './host.ts'
import { kvmAccess } from './kvm-access.ts'
import { InheritedFiles, launch } from './launch.ts'
import { canMapReadOnly, type MemoryFile, type MemorySource } from './memory.ts'
import { migrate, migrationDeadlineMs } from './migration.ts'
import { Qmp } from './qmp.ts'
import { QemuVmm } from './vmm.ts'

/** QEMU's own start, before any guest code: milliseconds, unless the host is under heavy load. */
const MONITOR_DEADLINE_MS = 30_000
const EXIT_GRACE_MS = 2_000

/** Room for the log, and with a disk for what a qcow2 needs beside its data: less than a thousandth. */
const SPARE_BYTES = 64 * 1024 * 1024
const QCOW2_FACTOR = 1.01

/** The state of a saved machine, to be loaded before the guest runs. */
export interface SavedState {
  path: string
  /** RAM is not in it but in the memory file. */
  mapped: boolean
  /** Called when it was loaded, just before the guest goes on. */
  taken: () => Promise<void>
}

export interface StartOptions {
  id: string
  accel: Accelerator
  /** Factor on deadlines that wait for guest code. */
  timeScale: number
  qemu: Qemu
  image: GuestImage
  /** Null boots the kernel and its initramfs alone. */
  disks: ScratchLayers | null
  memory: MemorySource
  memoryFile: MemoryFile
  /** Null boots. */
  state: SavedState | null
  kernelArgs: string[]
  memoryMib: number
  vcpus: number
  runDir: string
  /** Where the machine is saved to. */
  diskDir: string
  logPath: string
  uid: number | undefined
  dieWithParent: boolean
}

/**
 * Starts QEMU, reports its identity to `started`, and only then lets the guest run: from its first instruction, or from where
 * it was saved. Rejects with `engine_failed`, or with the reason of `signal`; nothing is left running then.
 */
export async function startQemu(
  options: StartOptions,
  started: (identity: ProcessIdentity) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<QemuVmm> {
  const { id, runDir, uid, state } = options
  const { gid, devices } = options.accel === 'kvm' ? await kvmAccess(runDir, uid) : { gid: uid, devices: {} }
  signal?.throwIfAborted()
  const files = new InheritedFiles()
  const args = qemuArgs(describe(options, files))
  const incoming = state && { ...state, ...incomingState(options.qemu.version.number, files.add(state.path)) }
  const { identity, ended } = await launch({
    runDir,
    uid,
    gid,
    devices,
    args: [...args, ...(incoming?.args ?? [])],
    program: options.qemu.path,
    logPath: options.logPath,
    dieWithParent: options.dieWithParent,
    maxFileBytes: await largestFile(options),
    files: files.list,
  })
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => killMachineProcesses({ id, runDir, identity, uid }))
  const ready = until(ended, options, signal, async (stop) => {
    const qmp = await Qmp.connect(join(runDir, SOCKETS.monitor), stop)
    if (incoming !== null) await migrate(qmp, 'in', incoming, stop)
    return qmp
  })
  const [qmp] = await Promise.all([ready, started(identity)])
  const vmm = new QemuVmm({ ...options, identity, qmp, ended, booting: state === null })
  await state?.taken()
  await qmp.execute('cont')
  cleanup.move()
  return vmm
}

/** The machine as QEMU is told of it; `files` takes what it needs to inherit. */
function describe(options: StartOptions, files: InheritedFiles): Parameters<typeof qemuArgs>[0] {
  const { image, disks, memory, qemu } = options
  return {
    id: options.id,
    accel: options.accel,
    version: qemu.version.number,
    memoryMib: options.memoryMib,
    vcpus: options.vcpus,
    boot:
      options.state === null
        ? { kernelFd: files.add(image.kernel), initrdFd: files.add(image.initrd), kernelArgs: options.kernelArgs }
        : null,
    memory: inheritMemory(memory, qemu, files),
    disks: disks && {
      rootFd: files.add(image.root),
      baseFd: files.add(disks.base),
      layerFd: disks.layer === undefined ? null : files.add(disks.layer),
      scratchFd: files.add(disks.scratch, { writable: true }),
    },
  }
}

function inheritMemory(memory: MemorySource, qemu: Qemu, files: InheritedFiles): QemuMemory {
  switch (memory.kind) {
    case 'anonymous':
      return memory
    case 'shared':
      return { kind: 'shared', fd: files.add(memory.path, { writable: true }) }
    case 'private':
      return { kind: 'private', fd: files.add(memory.path), openReadOnly: canMapReadOnly(qemu) }
  }
}

async function largestFile({ disks }: StartOptions): Promise<number> {
  return SPARE_BYTES + (disks === null ? 0 : Math.ceil((await stat(disks.base)).size * QCOW2_FACTOR))
}

/** Runs `work` until it is done, QEMU ends, its deadline has passed, or `signal` aborts. Says what QEMU said when it failed. */
async function until<T>(
  ended: Promise<string>,
  { state, memoryMib }: StartOptions,
  signal: AbortSignal | undefined,
  work: (stop: AbortSignal) => Promise<T>,
): Promise<T> {
  const failed = new AbortController()
  const subject = state === null ? 'QEMU did not start' : 'QEMU did not take up the saved machine'
  const fail = (why: string) => failed.abort(new VivariumError('engine_failed', `${subject}: ${why}.`))
  void ended.then(fail)
  const deadlineMs = MONITOR_DEADLINE_MS + (state === null ? 0 : migrationDeadlineMs(memoryMib))
  const timer = setTimeout(fail, deadlineMs, `its monitor did not answer in ${deadlineMs / 1000} s`)
  try {
    return await work(signal === undefined ? failed.signal : AbortSignal.any([failed.signal, signal]))
  } catch (error) {
    signal?.throwIfAborted()
    // A QEMU that ends closes its monitor a moment before we hear how it ended, which is what people want to know.
    await Promise.race([ended, sleep(EXIT_GRACE_MS)])
    throw failed.signal.aborted ? failed.signal.reason : error
  } finally {
    clearTimeout(timer)
  }
}
