import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VivariumError } from '../../contracts/errors.ts'
import type { GuestImage } from '../../images/types.ts'
import { processesNamed } from '../process-identity.ts'
import { canLeaseUids } from '../uid-lease.ts'
import type { Engine, EngineProbe, ProcessIdentity, Vmm, VmmSpec } from '../types.ts'
import { SOCKETS, type Accelerator } from './args.ts'
import { describeCompatibility } from './compatibility.ts'
import { FILES } from './disk-folder.ts'
import { createScratchDisk, takeScratchDisk } from './disks.ts'
import { findQemu, missingOnHost, type Qemu } from './host.ts'
import { canMapReadOnly, memoryFileOf, newMemory, takeMemory } from './memory.ts'
import { bootProbe } from './probe.ts'
import { ProbeMemory } from './probe-memory.ts'
import { Qmp } from './qmp.ts'
import { startQemu } from './start.ts'
import { QemuVmm } from './vmm.ts'

export interface QemuEngineOptions {
  accel: Accelerator
  /** Remembers probes. */
  cacheDir: string
  /** Short folder for sockets of running machines; the probe makes its own in it. */
  runDir: string
  /** The image to probe with, or undefined when none is built yet. */
  image: () => Promise<GuestImage | undefined>
}

/** Under emulation guest code takes about this many times as long, more when several guests share the cores. */
const TCG_TIME_SCALE = 8
const PROBE_DEADLINE_MS = { kvm: 10_000, tcg: 30_000 } as const
const ADOPT_DEADLINE_MS = 10_000

/** The QEMU engine: `qemu-kvm` with hardware virtualisation, `qemu-tcg` with software emulation. */
export function createQemuEngine(options: QemuEngineOptions): Engine {
  const { accel } = options
  const memory = new ProbeMemory(options.cacheDir)

  async function probe(signal?: AbortSignal): Promise<EngineProbe> {
    const answer = { engine: `qemu-${accel}` as const, works: false, version: null, reason: null, fix: null }
    const missing = await missingOnHost(accel)
    const qemu = await findQemu()
    const version = qemu?.version.text ?? null
    if (missing !== undefined) return { ...answer, version, ...missing }
    if (qemu === undefined) return { ...answer, reason: 'QEMU is installed but does not run.', fix: null }
    const image = await options.image()
    if (image === undefined)
      return { ...answer, version, reason: 'There is no guest image to try it with yet.', fix: 'vivarium image build' }
    const subject = { accel, qemuVersion: qemu.version.text, kernel: image.kernel }
    const known = await memory.recall(subject)
    const boot = { accel, qemu, image, runDir: options.runDir, deadlineMs: PROBE_DEADLINE_MS[accel] }
    const outcome = known ?? (await bootProbe(boot, signal))
    if (known === undefined) await memory.remember(subject, outcome)
    return { ...answer, version, ...outcome }
  }

  const timeScale = accel === 'kvm' ? 1 : TCG_TIME_SCALE

  /** What starts from nothing and what goes on have in common. */
  function startOptions(spec: VmmSpec, qemu: Qemu) {
    const logPath = join(spec.diskDir, FILES.log)
    const memoryFile = memoryFileOf(spec, qemu)
    return { ...spec, accel, timeScale, qemu, logPath, memoryFile, kernelArgs: [], dieWithParent: false }
  }

  return {
    name: `qemu-${accel}`,
    capabilities: { hardwareIsolation: accel === 'kvm', snapshots: true, tap: false },
    timeScale,
    probe,
    async create(spec, started, signal) {
      const qemu = await requireQemu()
      const scratch = await createScratchDisk(spec.diskDir, spec.scratchBase)
      const disks = { base: spec.scratchBase, layer: undefined, scratch }
      const memory = await newMemory(spec)
      return startQemu({ ...startOptions(spec, qemu), disks, memory, state: null }, started, signal)
    },
    async restore(spec, from, started, signal) {
      const qemu = await requireQemu()
      const disks = await takeScratchDisk(spec.diskDir, spec.scratchBase, from)
      const { source: memory, mapped } = await takeMemory(spec, from)
      const path = join(from.folder, FILES.state)
      // What it was saved as is past once its disk goes on: it must never be taken up again.
      const taken = async () => (from.disk === 'own' ? rm(path) : undefined)
      return startQemu({ ...startOptions(spec, qemu), disks, memory, state: { path, mapped, taken } }, started, signal)
    },
    async reboot(spec, started, signal) {
      const qemu = await requireQemu()
      const disks = await takeScratchDisk(spec.diskDir, spec.scratchBase, { folder: spec.diskDir, disk: 'own' })
      return startQemu(
        { ...startOptions(spec, qemu), disks, memory: { kind: 'anonymous' }, state: null },
        started,
        signal,
      )
    },
    compatibility: async () => describeCompatibility(accel, await requireQemu()),
    // A VMM that runs under our own uid may change the mode of our files.
    mapsReadOnly: async () => canMapReadOnly(await requireQemu()) && (await canLeaseUids()),
    adopt: (spec, identity) => adopt(spec, identity, timeScale),
  }
}

async function requireQemu(): Promise<Qemu> {
  const qemu = await findQemu()
  if (qemu === undefined)
    throw new VivariumError('setup_required', 'QEMU is not installed: apt-get install -y qemu-system-x86')
  return qemu
}

async function adopt(spec: VmmSpec, identity: ProcessIdentity, timeScale: number): Promise<Vmm | undefined> {
  // QEMU carries the machine's id as its name: a last check beyond pid and start time.
  const candidates = await processesNamed(`vivarium-${spec.id}`)
  if (!candidates.some(({ pid, startTime }) => pid === identity.pid && startTime === identity.startTime))
    return undefined
  const memoryFile = memoryFileOf(spec, await requireQemu())
  const qmp = await Qmp.connect(join(spec.runDir, SOCKETS.monitor), AbortSignal.timeout(ADOPT_DEADLINE_MS))
  const vmm = new QemuVmm({ ...spec, identity, timeScale, memoryFile, qmp, ended: undefined, booting: false })
  if (await vmm.isIncoming()) {
    // Killed while it took up a saved machine, which is still there.
    await vmm.kill()
    return undefined
  }
  await vmm.checkStatus() // it may have stopped while nobody listened
  return vmm
}
