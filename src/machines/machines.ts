import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import { EngineName, type MachineInfo } from '../contracts/machine.ts'
import { DEFAULT_TEMPLATE } from '../contracts/template.ts'
import type { Images } from '../images/types.ts'
import type { GuestLink } from '../link/types.ts'
import type { Database } from '../store/database.ts'
import type { Logger } from '../telemetry/types.ts'
import { removeIfEmpty } from './folders.ts'
import type { HousedMachine } from './housed-machine.ts'
import type { LinkOptions } from './housing.ts'
import { Journal, type JournalEntry } from './journal.ts'
import { Keeper } from './keeper.ts'
import { refuseTooLarge, type SizeLimits } from './limits.ts'
import { reconcile } from './reconcile.ts'
import { MachineRecord } from './record.ts'
import { reopenMachine, startMachine, type Origin, type StartContext } from './start-machine.ts'
import { TemplateService, type TemplatesOptions } from './templates/templates.ts'
import { warmUp, type BakeOptions } from './templates/warm-up.ts'
import {
  NOBODY,
  type Engine,
  type Machine,
  type MachineLease,
  type MachineOptions,
  type Machines,
  type MachineUse,
} from './types.ts'

export interface MachinesOptions {
  database: Database
  images: Images
  /** Probes and chooses; called after the image is there, again after it has failed. */
  chooseEngine: () => Promise<Engine>
  /** Short folder for sockets, of this orchestrator alone: what looks like a machine's in it is removed by `reconcile`. */
  runDir: string
  /** Folder for disks, likewise. */
  diskDir: string
  /** Size of every machine's scratch disk. */
  scratchMib: number
  limits: SizeLimits
  /** Kept machines that nobody uses for so long are suspended; 0 never. */
  suspendIdleMs: number
  /** Null boots every machine. */
  templates: Pick<TemplatesOptions, 'folder' | 'maxBytes' | 'memory' | 'severalUsers' | 'warm'> | null
  /** The way out of a machine in which a template's warm-up script runs. */
  warmEgress: (machineId: string, allow: readonly string[]) => WarmEgress
  linkFactory: (options: LinkOptions) => GuestLink
  log: Logger
}

export interface WarmEgress extends AsyncDisposable {
  accept: NonNullable<MachineUse['egress']>
}

interface Entry {
  record: MachineRecord
  /** Ends the start with a reason. */
  start: AbortController
  /** Settles when the machine is ready, or has failed and everything it made is removed. */
  started: Promise<HousedMachine>
  machine: HousedMachine | undefined
  /** Hears of every change; replaced by `assign`. */
  onChange: ((info: MachineInfo) => void) | undefined
}

/** The machines of one orchestrator: starts them, knows them, and takes up or removes what an earlier orchestrator left. */
export function createMachines(options: MachinesOptions): Machines {
  return new JournaledMachines(options)
}

class JournaledMachines implements Machines {
  readonly templates: TemplateService
  readonly #options: MachinesOptions
  readonly #journal: Journal
  readonly #entries = new Map<string, Entry>()
  readonly #listeners = new Set<(info: MachineInfo) => void>()
  readonly #keeper: Keeper
  #closing: VivariumError | undefined
  #engine: Promise<Engine> | undefined

  constructor(options: MachinesOptions) {
    const { images, scratchMib, log } = options
    this.#options = options
    this.#journal = new Journal(options.database)
    this.templates = new TemplateService({
      ...(options.templates ?? NO_TEMPLATES),
      images,
      scratchMib,
      log,
      engine: () => this.engine(),
      bake: (bake) => this.#bake(bake),
    })
    this.#keeper = new Keeper({
      idleMs: options.suspendIdleMs,
      suspend: (id) => this.#suspendIdle(id),
      destroy: (id) => this.evict(id, 'The machine was kept for as long as was asked for.'),
      log,
    })
  }

  engine(): Promise<Engine> {
    this.#engine ??= this.#chooseEngine().catch((error: unknown) => {
      this.#engine = undefined // it may be mended before the next call
      throw error
    })
    return this.#engine
  }

  async create(request: MachineOptions): Promise<Machine> {
    refuseTooLarge(request, this.#options.limits)
    const engine = await this.engine()
    request.signal?.throwIfAborted()
    if (request.forkOf !== undefined) return this.#fork(request, request.forkOf, engine)
    return this.#start(request, engine, (record, signal) => this.#origin(request, engine, record, signal))
  }

  get(id: string): Machine | undefined {
    const machine = this.#entries.get(id)?.machine
    return machine?.info().state === 'ready' ? machine : undefined
  }

  list(): MachineInfo[] {
    return [...this.#entries.values()].map(({ record }) => record.info())
  }

  async assign(id: string, use: MachineUse, signal?: AbortSignal): Promise<Machine> {
    const { entry, machine } = this.#housed(id)
    this.#keeper.release(id)
    const { userId, taskId } = use
    await this.#journal.setUse(id, { userId, taskId, keepUntil: null })
    const { userId: before, template } = machine.info()
    if (before === NOBODY) entry.record.cameFrom({ startedFrom: 'ready', template })
    entry.onChange = use.onChange
    entry.record.usedBy(use)
    if (use.egress !== null) machine.takeEgress(use.egress)
    await machine.resume(signal)
    return machine
  }

  async keep(id: string, until: Date): Promise<void> {
    const { entry, machine } = this.#housed(id)
    const { userId, taskId } = machine.info()
    const keepUntil = until.toISOString()
    await this.#journal.setUse(id, { userId, taskId, keepUntil })
    entry.onChange = undefined
    entry.record.keptUntil(keepUntil)
    this.#keeper.keep(id, until)
  }

  async suspend(id: string): Promise<void> {
    const { capabilities, name } = await this.engine()
    if (!capabilities.snapshots) throw new VivariumError('conflict', `The engine ${name} can't suspend machines.`)
    await this.#housed(id).machine.suspend()
  }

  async resume(id: string, signal?: AbortSignal): Promise<void> {
    await this.#housed(id).machine.resume(signal)
    this.#keeper.used(id)
  }

  async lease(id: string, signal?: AbortSignal): Promise<MachineLease> {
    const { machine } = this.#housed(id)
    const use = this.#keeper.use(id)
    try {
      await machine.resume(signal)
      return { machine, [Symbol.dispose]: () => use[Symbol.dispose]() }
    } catch (error) {
      use[Symbol.dispose]()
      throw error
    }
  }

  async evict(id: string, reason: string): Promise<void> {
    const entry = this.#entries.get(id)
    if (entry === undefined) throw notFound(id)
    await this.#end(entry, new VivariumError('cancelled', reason))
  }

  watch(listener: (info: MachineInfo) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  reconcile(): Promise<string[]> {
    return reconcile({
      ...this.#options,
      journal: this.#journal,
      isCurrent: (id) => this.#entries.has(id),
      reopen: (entry) => this.#reopen(entry),
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closing = new VivariumError('shutting_down', 'The server is shutting down.')
    this.#closing = closing
    this.#keeper[Symbol.dispose]()
    this.templates[Symbol.dispose]()
    const entries = [...this.#entries.values()]
    await Promise.allSettled(entries.map((entry) => this.#close(entry, closing)))
    await removeIfEmpty(this.#options.runDir)
  }

  async #chooseEngine(): Promise<Engine> {
    await this.#options.images.ensure() // an engine is tried with it
    return this.#options.chooseEngine()
  }

  /** Starts a machine from what `origin` says; once more, from something else, where a template turns out to be of no use. */
  async #start(
    request: MachineOptions,
    engine: Engine,
    origin: (record: MachineRecord, signal: AbortSignal) => Promise<Origin>,
  ): Promise<HousedMachine> {
    if (this.#closing !== undefined) throw this.#closing
    const entry = this.#enter(request, engine)
    const { id } = entry.record
    const forget = () => this.#forget(id)
    const signal =
      request.signal === undefined ? entry.start.signal : AbortSignal.any([entry.start.signal, request.signal])
    const attempt = async (): Promise<HousedMachine> => {
      const from = await origin(entry.record, signal)
      entry.record.cameFrom(shownOrigin(from))
      try {
        return await startMachine(this.#context(engine), entry.record, { ...request, origin: from, forget, signal })
      } catch (error) {
        if (from.from !== 'template' || signal.aborted) throw error
        const reason = `no machine started from it: ${error instanceof Error ? error.message : String(error)}`
        await this.templates.discard(from.saved.folder, reason)
        const again = await origin(entry.record, signal)
        entry.record.cameFrom(shownOrigin(again))
        return startMachine(this.#context(engine), entry.record, { ...request, origin: again, forget, signal })
      }
    }
    entry.started = attempt()
    try {
      entry.machine = await entry.started
      return entry.machine
    } catch (error) {
      forget()
      throw this.#startError(id, error)
    }
  }

  /** Starts a copy of a suspended machine, which stays as it is meanwhile. */
  #fork(request: MachineOptions, of: string, engine: Engine): Promise<HousedMachine> {
    const { machine } = this.#housed(of)
    const { memoryMib, vcpus } = machine.info()
    return machine.withSaved((folder) => {
      const origin: Origin = { from: 'fork', saved: { folder, disk: 'copy' } }
      return this.#start({ ...request, memoryMib, vcpus }, engine, async () => origin)
    })
  }

  /** What a machine starts from: a named template (built now if need be), the plain one if it is there, or a boot. */
  async #origin(
    { template, memoryMib, vcpus }: MachineOptions,
    engine: Engine,
    record: MachineRecord,
    signal: AbortSignal,
  ): Promise<Origin> {
    const shape = { name: template ?? DEFAULT_TEMPLATE, memoryMib, vcpus }
    const has = this.#options.templates !== null && engine.capabilities.snapshots
    if (template !== undefined) {
      if (!has) throw new VivariumError('conflict', 'This server has no templates (template.enabled, or its engine).')
      record.enter('template')
      await this.templates.build({ ...shape, rebuild: false }, { signal })
    }
    const folder = has ? await this.templates.find(shape) : undefined
    if (has && folder === undefined) this.templates.want(shape)
    if (folder === undefined) return { from: 'boot', memory: 'anonymous' }
    return { from: 'template', template: shape.name, saved: { folder, disk: 'over' } }
  }

  /** Boots a machine in the template's own folder, warms it up, and leaves it saved there. */
  async #bake({ folder, memoryMib, vcpus, memory, warm, progress, signal }: BakeOptions): Promise<void> {
    const engine = await this.engine()
    const id = newId('vm')
    await using egress = this.#options.warmEgress(id, warm?.allow ?? [])
    progress({ step: 'booting' })
    const use = { userId: NOBODY, taskId: null, egress: egress.accept }
    const origin: Origin = { from: 'boot', memory: memory === 'mapped' ? 'file' : 'anonymous', diskDir: folder }
    const request = { id, ...use, memoryMib, vcpus, ...(signal && { signal }) }
    const machine = await this.#start(request, engine, async () => origin)
    const overdue = AbortSignal.timeout(SAVE_MS * engine.timeScale)
    try {
      await warmUp(machine.link, { warm, progress, signal }, engine.timeScale)
      progress({ step: 'saving' })
      await machine.saveAtRest(signal === undefined ? overdue : AbortSignal.any([overdue, signal]))
    } finally {
      await machine.destroy()
    }
  }

  /** Enters a machine into the list. */
  #enter(request: MachineOptions, engine: Engine): Entry {
    const { id = newId('vm'), memoryMib, vcpus } = request
    const createdAt = new Date().toISOString()
    const identity = { id, engine: engine.name, memoryMib, vcpus, createdAt }
    const record = new MachineRecord(identity, request, (info) => this.#notify(info))
    const unset = Promise.reject<HousedMachine>(new Error('not started'))
    unset.catch(() => {}) // replaced before anybody can wait for it
    const { onChange } = request
    const entry: Entry = { record, start: new AbortController(), started: unset, machine: undefined, onChange }
    this.#entries.set(id, entry)
    return entry
  }

  /** A suspended machine of an earlier orchestrator is there again, until the time it was kept for. */
  async #reopen(entry: JournalEntry): Promise<void> {
    const engine = await this.engine()
    if (engine.name !== entry.engine) throw new Error(`it was suspended by the engine ${entry.engine}`)
    const { id, userId, taskId, memoryMib, vcpus, createdAt, template, keepUntil } = entry
    const identity = { id, engine: EngineName.parse(entry.engine), memoryMib, vcpus, createdAt }
    const record = new MachineRecord(identity, { userId, taskId }, (info) => this.#notify(info))
    const machine = await reopenMachine(this.#context(engine), record, entry, () => this.#forget(id))
    const started = Promise.resolve(machine)
    this.#entries.set(id, { record, start: new AbortController(), started, machine, onChange: undefined })
    const startedFrom = entry.startedFrom as MachineInfo['startedFrom']
    record.cameFrom({ startedFrom, template })
    record.become('suspended')
    if (keepUntil === null) return
    record.keptUntil(keepUntil)
    this.#keeper.keep(id, new Date(keepUntil))
  }

  #context(engine: Engine): StartContext {
    return { ...this.#options, journal: this.#journal, engine }
  }

  #notify(info: MachineInfo): void {
    this.#entries.get(info.id)?.onChange?.(info)
    for (const listener of this.#listeners) listener(info)
  }

  #housed(id: string): { entry: Entry; machine: HousedMachine } {
    const entry = this.#entries.get(id)
    if (entry === undefined) throw notFound(id)
    if (entry.machine === undefined)
      throw new VivariumError('conflict', `Machine ${id} is ${entry.record.state}; it can be used while it is ready.`)
    return { entry, machine: entry.machine }
  }

  /** Nothing is left of a machine. */
  #forget(id: string): void {
    this.#keeper.release(id)
    const entry = this.#entries.get(id)
    if (entry === undefined) return
    this.#entries.delete(id)
    entry.record.become('gone')
    entry.onChange?.(entry.record.info())
  }

  async #suspendIdle(id: string): Promise<void> {
    const { capabilities } = await this.engine()
    if (capabilities.snapshots) await this.#housed(id).machine.suspend()
  }

  /** A suspended machine that is kept outlives this orchestrator. */
  async #close(entry: Entry, closing: VivariumError): Promise<void> {
    const { state, keepUntil } = entry.record.info()
    if (state === 'suspended' && keepUntil !== null) await entry.machine?.leave()
    else await this.#end(entry, closing)
  }

  async #end(entry: Entry, reason: VivariumError): Promise<void> {
    entry.start.abort(reason)
    const machine = await entry.started.catch(() => undefined) // its creator hears of it
    machine?.lose(reason.message)
    await machine?.destroy()
  }

  /** What ended a start. If removing its remains failed too, that is logged: they stay in the journal for `reconcile`. */
  #startError(machineId: string, error: unknown): unknown {
    if (!(error instanceof SuppressedError)) return error
    this.#options.log.error({ err: error.error, machineId }, 'a machine that did not start could not be removed')
    return this.#startError(machineId, error.suppressed)
  }
}

/** From a warm guest to a template on the disk, with hardware virtualisation. */
const SAVE_MS = 60_000

/** Templates that are never asked for. */
const NO_TEMPLATES: MachinesOptions['templates'] & object = {
  folder: '/nonexistent',
  maxBytes: 0,
  memory: 'stream',
  warm: {},
  severalUsers: async () => true,
}

function shownOrigin(origin: Origin): Pick<MachineInfo, 'startedFrom' | 'template'> {
  return { startedFrom: origin.from, template: origin.from === 'template' ? origin.template : null }
}

function notFound(id: string): VivariumError {
  return new VivariumError('not_found', `There is no machine ${id}.`)
}
