import { join } from 'node:path'
import type { Images } from '../images/types.ts'
import type { GuestLink } from '../link/types.ts'
import type { Logger } from '../telemetry/types.ts'
import { waitForAgent } from './agent-hello.ts'
import { makeFolders, removeFolders } from './folders.ts'
import type { Journal } from './journal.ts'
import { killMachineProcesses } from './kill.ts'
import type { MachineRecord } from './record.ts'
import { RunningMachine } from './running-machine.ts'
import { listenForVmm } from './sockets.ts'
import type { Engine, MachineOptions, ProcessIdentity } from './types.ts'

export interface LinkOptions {
  machineId: string
  /** Factor on deadlines that wait for guest code. */
  timeScale: number
}

/** What booting a machine takes besides the machine's own options. */
export interface BootContext {
  engine: Engine
  images: Images
  journal: Journal
  /** Short folder for run folders. */
  runDir: string
  /** Folder for disks, of this orchestrator alone. */
  diskDir: string
  scratchMib: number
  linkFactory: (options: LinkOptions) => GuestLink
  log: Logger
}

/**
 * Boots a machine: journal, folders, sockets, VMM, hello. If any step fails, everything made before it is removed. The
 * machine's clean-up also runs `forget`, last.
 */
export async function bootMachine(
  context: BootContext,
  options: MachineOptions,
  record: MachineRecord,
  forget: () => void,
  signal: AbortSignal,
): Promise<RunningMachine> {
  const { engine, images, journal } = context
  const { id } = record
  await using made = new AsyncDisposableStack()
  made.defer(forget)

  record.enter('image')
  const image = await images.ensure(undefined, signal)
  const scratchBase = await images.emptyScratch(context.scratchMib)

  record.enter('disk')
  const { userId, taskId, memoryMib, vcpus } = options
  const folders = { runDir: join(context.runDir, id), diskDir: join(context.diskDir, id) }
  const { createdAt } = record.info()
  const start = { state: 'running', startedFrom: 'boot', template: null, imageKey: image.manifest.key, keepUntil: null }
  const size = { memoryMib, vcpus }
  const uid = await journal.add({ id, userId, taskId, ...size, engine: engine.name, createdAt, ...folders, ...start })
  let identity: ProcessIdentity | undefined
  // One step, so that the journal forgets a machine only when its processes and folders are truly gone.
  made.defer(async () => {
    await killMachineProcesses({ id, identity, uid })
    await removeFolders(folders)
    await journal.remove(id)
  })
  await makeFolders(folders, uid)

  const link = made.use(context.linkFactory({ machineId: id, timeScale: engine.timeScale }))
  made.use(await listenForVmm(join(folders.runDir, 'control.sock'), uid, (socket) => link.accept(socket)))
  made.use(await listenForVmm(join(folders.runDir, 'egress.sock'), uid, options.egress))

  const spec = { id, ...folders, image, scratchBase, ...size, memory: 'anonymous' as const, uid }
  const started = async (found: ProcessIdentity) => {
    identity = found
    await journal.setProcess(id, found)
    record.enter('vmm')
  }
  const vmm = await engine.create(spec, started, signal)
  made.defer(() => vmm.kill())

  record.enter('kernel')
  void vmm.guestUp.then(() => record.enter('agent'))
  await waitForAgent({ vmm, link, hostname: id.replace('_', '-'), timeScale: engine.timeScale, signal })
  record.become('ready')
  return new RunningMachine({
    record,
    link,
    vmm,
    timeScale: engine.timeScale,
    resources: made.move(),
    log: context.log,
  })
}
