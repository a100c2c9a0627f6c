import { join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'
import type { Images } from '../images/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import type { Logger } from '../telemetry/types.ts'
import { waitForAgent } from './agent-hello.ts'
import { dependenciesOf, findChange, type Dependencies } from './dependencies.ts'
import { HousedMachine, type HousedMachineParts } from './housed-machine.ts'
import { Housing, type HousingContext } from './housing.ts'
import { isSaved } from './folders.ts'
import type { JournalEntry } from './journal.ts'
import type { FoundState } from './reconcile.ts'
import type { MachineRecord } from './record.ts'
import type { Engine, MachineOptions, ProcessIdentity, SavedMachine, VmmSpec } from './types.ts'

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
  | { from: 'fork'; of: string; saved: SavedMachine; dependsOn: Dependencies }

export interface StartOptions extends Pick<
  MachineOptions,
  'userId' | 'taskId' | 'memoryMib' | 'vcpus' | 'egress' | 'network'
> {
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
  const { engine, log } = context
  const { origin, signal } = options
  const { id } = record
  await using made = new AsyncDisposableStack()

  record.enter('image')
  const { dependsOn, ...parts } = await currentParts(context, signal)
  if (origin.from === 'fork') refuseChange(`A copy of the machine ${origin.of}`, origin.dependsOn, dependsOn)

  record.enter('disk')
  const { userId, taskId, memoryMib, vcpus, network } = options
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
    dependsOn,
    keepUntil: null,
    network,
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
  const restore = restorer(context, housing)
  const hasBaseline = origin.from === 'template'
  const { timeScale } = engine
  const { forget } = options
  return new HousedMachine({ record, housing, vmm, restore, timeScale, hasBaseline, crashed: undefined, forget, log })
}

/** A machine of an earlier orchestrator, as it was: it runs on, or lies on the disk. */
export async function reopenMachine(
  context: StartContext,
  record: MachineRecord,
  entry: JournalEntry,
  options: { found: FoundState; forget: () => void },
): Promise<HousedMachine> {
  const { engine, log } = context
  const { found, forget } = options
  const housing = await Housing.reopen(entry, { ...context, timeScale: engine.timeScale }, found === 'running')
  const restore = restorer(context, housing)
  const { timeScale } = engine
  const crashed = found === 'crashed' ? 'its process is gone' : undefined
  const parts = { record, housing, vmm: undefined, restore, timeScale, hasBaseline: false, crashed, forget, log }
  const machine = new HousedMachine(parts)
  const { identity } = entry
  if (found === 'running' && identity !== undefined) {
    record.become('resuming')
    const spec = async () => housing.spec({ ...(await currentParts(context)), memory: 'anonymous' })
    void machine.adopt(async () => engine.adopt(await spec(), identity))
  } else record.become('suspended')
  return machine
}

/** Starts a machine's VMM again from its own disk folder. Rejects with `conflict` where what it was saved with is not at hand any more. */
function restorer(context: StartContext, housing: Housing): HousedMachineParts['restore'] {
  const { engine } = context
  return async (signal) => {
    const { dependsOn, ...parts } = await currentParts(context, signal)
    const spec = housing.spec({ ...parts, memory: 'anonymous' })
    const started = async (identity: ProcessIdentity) => {
      await housing.started(identity)
      crashPoint('resume journaled')
    }
    if (!(await isSaved(housing.folders.diskDir))) return engine.reboot(spec, started, signal)
    refuseChange(`Machine ${housing.id}`, housing.dependsOn, dependsOn)
    const saved: SavedMachine = { folder: housing.folders.diskDir, disk: 'own' }
    const vmm = await engine.restore(spec, saved, started, signal)
    crashPoint('resume taken')
    return vmm
  }
}

/** What a machine is made of now. */
async function currentParts({ engine, images, scratchMib }: StartContext, signal?: AbortSignal) {
  const image = await images.ensure(undefined, signal)
  const [scratchBase, dependsOn] = await Promise.all([
    images.emptyScratch(scratchMib),
    dependenciesOf(engine, image, scratchMib),
  ])
  return { image, scratchBase, dependsOn }
}

function refuseChange(what: string, before: Dependencies, now: Dependencies): void {
  const change = findChange(before, now)
  if (change === undefined) return
  throw new VivariumError('conflict', `${what} can't be started: ${change}. It was saved before that; take a new one.`)
}
