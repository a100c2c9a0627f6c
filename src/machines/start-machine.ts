import { join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'
import type { Images } from '../images/types.ts'
import type { Logger } from '../telemetry/types.ts'
import { waitForAgent } from './agent-hello.ts'
import { HousedMachine, type HousedMachineParts } from './housed-machine.ts'
import { Housing, type HousingContext } from './housing.ts'
import type { JournalEntry } from './journal.ts'
import type { MachineRecord } from './record.ts'
import type { Engine, MachineOptions, SavedMachine, VmmSpec } from './types.ts'

/** What starting machines takes besides each machine's own options. */
export interface StartContext extends Omit<HousingContext, 'timeScale'> {
  engine: Engine
  images: Images
  /** Short folder for run folders. */
  runDir: string
  /** Folder for disks, of this orchestrator alone. */
  diskDir: string
  scratchMib: number
  log: Logger
}

/** What a machine starts from. */
export type Origin =
  | {
      from: 'boot'
      memory: VmmSpec['memory']
      /** A disk folder elsewhere, for a machine that becomes a template. */
      diskDir?: string
    }
  | { from: 'template'; template: string; saved: SavedMachine }
  | { from: 'fork'; saved: SavedMachine }

export interface StartOptions extends Pick<MachineOptions, 'userId' | 'taskId' | 'memoryMib' | 'vcpus' | 'egress'> {
  origin: Origin
  /** Called when nothing of the machine is left. */
  forget: () => void
  signal: AbortSignal
}

/**
 * Starts a machine: journal, folders, sockets, VMM, hello. If any step fails, everything made before it is removed, and
 * `forget` is not called.
 */
export async function startMachine(
  context: StartContext,
  record: MachineRecord,
  options: StartOptions,
): Promise<HousedMachine> {
  const { engine, images, log } = context
  const { origin, signal } = options
  const { id } = record
  await using made = new AsyncDisposableStack()

  record.enter('image')
  const image = await images.ensure(undefined, signal)
  const parts = { image, scratchBase: await images.emptyScratch(context.scratchMib) }

  record.enter('disk')
  const { userId, taskId, memoryMib, vcpus } = options
  const { createdAt, startedFrom, template } = record.info()
  const entry = {
    id,
    userId,
    taskId,
    engine: engine.name,
    memoryMib,
    vcpus,
    createdAt,
    startedFrom,
    template,
    state: 'running',
    imageKey: image.manifest.key,
    keepUntil: null,
    runDir: join(context.runDir, id),
    diskDir: (origin.from === 'boot' ? origin.diskDir : undefined) ?? join(context.diskDir, id),
  }
  const housing = await Housing.open(entry, { ...context, timeScale: engine.timeScale })
  made.use(housing)
  if (options.egress !== null) housing.egress.connect(options.egress)

  const started = async (identity: Parameters<typeof housing.started>[0]) => {
    await housing.started(identity)
    record.enter('vmm')
  }
  const vmm =
    origin.from === 'boot'
      ? await engine.create(housing.spec({ ...parts, memory: origin.memory }), started, signal)
      : await engine.restore(housing.spec({ ...parts, memory: 'anonymous' }), origin.saved, started, signal)
  made.defer(() => vmm.kill())

  if (origin.from === 'boot') record.enter('kernel')
  void vmm.guestUp.then(() => record.enter('agent'))
  await waitForAgent({ vmm, link: housing.link, machineId: id, timeScale: engine.timeScale, signal })
  made.move()
  record.become('ready')
  const restore = restorer(context, housing, image.manifest.key)
  return new HousedMachine({ record, housing, vmm, restore, timeScale: engine.timeScale, forget: options.forget, log })
}

/** A suspended machine of an earlier orchestrator, as it was. */
export async function reopenMachine(
  context: StartContext,
  record: MachineRecord,
  entry: JournalEntry,
  forget: () => void,
): Promise<HousedMachine> {
  const { engine, log } = context
  const housing = await Housing.reopen(entry, { ...context, timeScale: engine.timeScale })
  const restore = restorer(context, housing, entry.imageKey)
  return new HousedMachine({ record, housing, vmm: undefined, restore, timeScale: engine.timeScale, forget, log })
}

/** Starts a machine's VMM again from its own disk folder. Rejects with `conflict` where its root disk is not at hand any more. */
function restorer(
  { engine, images, scratchMib }: StartContext,
  housing: Housing,
  imageKey: string | null,
): HousedMachineParts['restore'] {
  return async (signal) => {
    const image = await images.ensure(undefined, signal)
    if (image.manifest.key !== imageKey) {
      const message = `Machine ${housing.id} can't be resumed: the guest image has changed since it was suspended. Start a new one.`
      throw new VivariumError('conflict', message)
    }
    const scratchBase = await images.emptyScratch(scratchMib)
    const spec = housing.spec({ image, scratchBase, memory: 'anonymous' })
    const saved: SavedMachine = { folder: housing.folders.diskDir, disk: 'own' }
    return engine.restore(spec, saved, (identity) => housing.started(identity), signal)
  }
}
