import { VivariumError } from '../contracts/errors.ts'
import { EngineName, type MachineInfo } from '../contracts/machine.ts'
import type { NetworkPolicy } from '../contracts/network.ts'
import { DEFAULT_TEMPLATE } from '../contracts/template.ts'
import type { Images } from '../images/types.ts'
import type { GuestLink } from '../link/types.ts'
import type { FoundLeak } from '../reaper/types.ts'
import type { Database } from '../store/database.ts'
import type { Logger } from '../telemetry/types.ts'
import { ClockKeeper } from './clock-keeper.ts'
import { close, end, removeWhenLost } from './endings.ts'
import { Entries, type Entry } from './entries.ts'
import { removeIfEmpty } from './folders.ts'
import type { HousedMachine } from './housed-machine.ts'
import type { LinkOptions } from './housing.ts'
import { Journal, type JournalEntry } from './journal.ts'
import { Keeper } from './keeper.ts'
import { killMachineProcesses } from './kill.ts'
import { findForgotten, findStrays } from './leaks.ts'
import { refuseTooLarge } from './limits.ts'
import { orAborted } from './or-aborted.ts'
import { reconcile, type FoundState } from './reconcile.ts'
import { reopenMachine } from './start-machine.ts'
import { Starter } from './starter.ts'
import { bake, type WarmEgress } from './templates/bake.ts'
import { noTemplates } from './templates/none.ts'
import { TemplateService, type TemplateSettings } from './templates/templates.ts'
import {
  NOBODY,
  type Claims,
  type Engine,
  type Machine,
  type MachineLease,
  type MachineOptions,
  type Machines,
  type MachineSize,
  type MachineUse,
  type Templates,
} from './types.ts'

const NO_CLAIMS: Claims = { inUse: new Set(), givenBack: new Map() }

/** How often machines that nobody uses yet are compared with the template that they would start from now. */
const REVIEW_MS = 30_000

export interface MachinesOptions {
  database: Database
  images: Images
  /** Probes and chooses; called after the image is there, again after it has failed. */
  chooseEngine: () => Promise<Engine>
  /** All engines, to go on with machines that were suspended by another one than the one in use. */
  engines: readonly Engine[]
  /** Short folder for sockets, of this orchestrator alone: what looks like a machine's in it and is none is a leak. */
  runDir: string
  /** Folder for disks, likewise. */
  diskDir: string
  /** Size of every machine's scratch disk. */
  scratchMib: number
  /** The largest machine that may be asked for. */
  largest: MachineSize
  /** Names that are never part of what a task has changed. */
  exclude: readonly string[]
  /** Kept machines that nobody uses for so long are suspended; 0 never. */
  suspendIdleMs: number
  /** What becomes of machines of users when this orchestrator ends; see the setting `tasks.atShutdown`. */
  atShutdown: 'suspend' | 'leave' | 'stop'
  /** Null boots every machine. */
  templates: TemplateSettings | null
  /** The way out of a machine in which a template's warm-up script runs. */
  warmEgress: (machineId: string, allow: readonly string[]) => WarmEgress
  linkFactory: (options: LinkOptions) => GuestLink
  log: Logger
}

/** The machines of one orchestrator: starts them, knows them, and takes up or removes what an earlier orchestrator left. */
export function createMachines(options: MachinesOptions): Machines {
  return new JournaledMachines(options)
}

class JournaledMachines implements Machines {
  readonly templates: Templates
  readonly #options: MachinesOptions
  readonly #journal: Journal
  readonly #entries = new Entries()
  readonly #templates: TemplateService | undefined
  readonly #starter: Starter
  readonly #keeper: Keeper
  readonly #clockKeeper: ClockKeeper
  readonly #reviewer: NodeJS.Timeout
  #closing: VivariumError | undefined
  #engine: Promise<Engine> | undefined
  /** Ends the making of the image, when it is under way. */
  readonly #imaging = new AbortController()
  #imaged: Promise<unknown> | undefined

  constructor(options: MachinesOptions) {
    this.#options = options
    this.#journal = new Journal(options.database)
    this.#templates = options.templates === null ? undefined : this.#createTemplates(options.templates)
    this.templates = this.#templates ?? noTemplates
    this.#starter = new Starter({
      ...options,
      journal: this.#journal,
      entries: this.#entries,
      templates: this.#templates,
      forget: (id) => this.#forget(id),
    })
    this.#keeper = new Keeper({
      idleMs: options.suspendIdleMs,
      suspend: (id) => this.#suspendIdle(id),
      destroy: (id) => this.evict(id, 'The machine was kept for as long as was asked for.'),
      log: options.log,
    })
    this.#clockKeeper = new ClockKeeper({ machines: () => this.#running(), log: options.log })
    this.#reviewer = setInterval(() => void this.#review(), REVIEW_MS).unref()
  }

  engine(): Promise<Engine> {
    this.#engine ??= this.#chooseEngine().catch((error: unknown) => {
      this.#engine = undefined // it may be mended before the next call
      throw error
    })
    return this.#engine
  }

  async create(request: MachineOptions): Promise<Machine> {
    refuseTooLarge(request, this.#options.largest)
    const engine = await orAborted(this.engine(), request.signal)
    request.signal?.throwIfAborted()
    this.#refuseIfClosing()
    if (request.forkOf === undefined) return this.#starter.start(request, engine)
    return this.#starter.fork(request, this.#entries.housed(request.forkOf).machine, engine)
  }

  get(id: string): Machine | undefined {
    const { machine } = this.#entries.find(id) ?? {}
    return machine?.info().state === 'ready' ? machine : undefined
  }

  list(): MachineInfo[] {
    return this.#entries.all().map(({ record }) => record.info())
  }

  async assign(id: string, use: MachineUse, signal?: AbortSignal): Promise<Machine> {
    const { entry, machine } = this.#entries.housed(id)
    const { record, onChange } = entry
    const before = record.info()
    if (before.userId !== NOBODY && before.keepUntil === null)
      throw new VivariumError('conflict', `Machine ${id} is in use already.`)
    // All that tells others so comes before the first wait: no two get the same machine.
    this.#keeper.release(id)
    const after = { ...before, ...use, keepUntil: null }
    if (before.userId === NOBODY) after.startedFrom = 'ready'
    else machine.hasBaseline = false
    entry.onChange = use.onChange
    record.cameFrom(after)
    record.usedBy(after)
    const takerBefore = machine.takeEgress(use.egress ?? undefined)
    try {
      // Until when it was kept stays written down: whoever finds that this use never began gives it back.
      await this.#journal.setUse(id, { ...after, keepUntil: before.keepUntil })
      await machine.resume(signal)
      return machine
    } catch (error) {
      // It lies there as it was, for whoever has more luck.
      entry.onChange = onChange
      record.cameFrom(before)
      record.usedBy(before)
      machine.takeEgress(takerBefore)
      await this.#journal.setUse(id, before)
      // Lost under the new use, it was that one's to remove.
      if (record.state === 'stopping') await machine.destroy().catch(() => {}) // logged where it failed
      else this.#keepOn(entry)
      throw error
    }
  }

  find(id: string): Machine | undefined {
    return this.#entries.find(id)?.machine
  }

  networkOf(id: string): NetworkPolicy | undefined {
    return this.#entries.find(id)?.machine?.network
  }

  async rejoin(id: string, { egress, onChange }: Pick<MachineUse, 'egress' | 'onChange'>): Promise<void> {
    const { entry, machine } = this.#entries.housed(id)
    entry.onChange = onChange
    machine.takeEgress(egress ?? undefined)
  }

  async salvage(id: string): Promise<Machine> {
    const { machine, record } = this.#entries.get(id)
    if (machine === undefined || record.state !== 'stopping')
      throw new VivariumError('conflict', `Machine ${id} is ${record.state}: it was not lost.`)
    try {
      await machine.surrender()
      const journaled = (await this.#journal.all()).find((entry) => entry.id === id)
      if (journaled === undefined) throw new VivariumError('not_found', `Nothing is left of the machine ${id}.`)
      await killMachineProcesses(journaled)
      return await this.#reopen(journaled, 'crashed')
    } catch (error) {
      this.#forget(id) // what is left of it stands in the journal, and is found there
      throw error
    }
  }

  async leave(id: string): Promise<void> {
    await this.#entries.get(id).machine?.leave()
  }

  async keep(id: string, until: Date): Promise<void> {
    const kept = { ...this.#entries.housed(id).machine.info(), keepUntil: until.toISOString() }
    await this.#journal.setUse(id, kept)
    const { entry } = this.#entries.housed(id) // it may have gone meanwhile
    entry.onChange = undefined
    entry.record.usedBy(kept)
    this.#keepOn(entry)
  }

  async suspend(id: string): Promise<void> {
    const { capabilities, name } = await this.engine()
    if (!capabilities.snapshots) throw new VivariumError('conflict', `The engine ${name} can't suspend machines.`)
    const { machine } = this.#entries.housed(id)
    if (this.#keeper.isUsed(id)) {
      const message = `Machine ${id} runs a command or moves a file for somebody: suspend it when that has ended.`
      throw new VivariumError('conflict', message)
    }
    await machine.suspend()
  }

  async resume(id: string, signal?: AbortSignal): Promise<void> {
    await this.#entries.housed(id).machine.resume(signal)
    this.#keeper.used(id)
  }

  async lease(id: string, signal?: AbortSignal): Promise<MachineLease> {
    const { machine } = this.#entries.housed(id)
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
    await end(this.#entries.get(id), new VivariumError('machine_destroyed', reason))
  }

  watch(listener: (info: MachineInfo) => void): () => void {
    return this.#entries.watch(listener)
  }

  async reconcile(claims: Claims = NO_CLAIMS): Promise<string[]> {
    const removed = await reconcile({
      ...this.#options,
      journal: this.#journal,
      claims,
      isCurrent: (id) => this.#entries.find(id) !== undefined,
      reopen: (entry, found) => this.#reopen(entry, found),
    })
    return removed
  }

  async leaks(): Promise<FoundLeak[]> {
    const isCurrent = (id: string) => this.#entries.find(id) !== undefined
    const known = async () => {
      const journaled = await this.#journal.all()
      return new Set([...journaled, ...this.#entries.all().map(({ record }) => record)].map(({ id }) => id))
    }
    const strays = await findStrays({ ...this.#options, known })
    return [...strays, ...(await findForgotten(this.#journal, isCurrent))]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closing = new VivariumError('shutting_down', 'The server is shutting down.')
    this.#closing = closing
    clearInterval(this.#reviewer)
    this.#clockKeeper[Symbol.dispose]()
    this.#keeper[Symbol.dispose]()
    const closed = this.#entries.all().map((entry) => close(entry, closing, this.#options.atShutdown))
    this.#imaging.abort(closing)
    await Promise.allSettled([this.#imaged, this.#templates?.[Symbol.asyncDispose](), ...closed])
    await removeIfEmpty(this.#options.runDir)
  }

  #createTemplates(settings: TemplateSettings): TemplateService {
    const boot: Starter['boot'] = async (...request) => {
      this.#refuseIfClosing()
      return this.#starter.boot(...request)
    }
    const { images, scratchMib, exclude, warmEgress, log } = this.#options
    const engine = () => this.engine()
    return new TemplateService({
      settings,
      images,
      scratchMib,
      exclude,
      engine,
      bake: (options) => bake({ engine, warmEgress, boot }, options),
      onWithdrawn: (folder) => this.#dropReady((entry) => entry.template === folder),
      log,
    })
  }

  async #chooseEngine(): Promise<Engine> {
    this.#imaged = this.#options.images.ensure(undefined, this.#imaging.signal) // an engine is tried with it
    await this.#imaged
    return this.#options.chooseEngine()
  }

  #refuseIfClosing(): void {
    if (this.#closing !== undefined) throw this.#closing
  }

  /** A machine of an earlier orchestrator is there again; one that is kept, until the time it was kept for. */
  async #reopen(journaled: JournalEntry, found: FoundState): Promise<HousedMachine> {
    const engine = this.#options.engines.find(({ name }) => name === journaled.engine)
    if (engine === undefined) throw new Error(`there is no engine ${journaled.engine}`)
    const { id } = journaled
    const entry = this.#entries.add({ ...journaled, engine: EngineName.parse(journaled.engine) }, journaled)
    try {
      const { record, started } = entry
      record.cameFrom({ ...journaled, startedFrom: journaled.startedFrom as MachineInfo['startedFrom'] })
      record.usedBy(journaled)
      const context = { ...this.#options, journal: this.#journal, engine }
      const machine = await reopenMachine(context, record, journaled, { found, forget: () => this.#forget(id) })
      entry.machine = machine
      started.resolve(machine)
      removeWhenLost(entry, machine)
      this.#keepOn(entry)
      return machine
    } catch (error) {
      this.#forget(id)
      throw error
    }
  }

  /** Minds a machine until its time is over, if it is kept. */
  #keepOn({ record }: Entry): void {
    const { id, keepUntil, state } = record.info()
    if (keepUntil !== null && state !== 'stopping' && state !== 'gone') this.#keeper.keep(id, new Date(keepUntil))
  }

  #running(): Machine[] {
    return this.#entries.all().flatMap(({ record, machine }) => (record.state === 'ready' ? (machine ?? []) : []))
  }

  #forget(id: string): void {
    this.#keeper.release(id)
    this.#entries.forget(id)
  }

  async #suspendIdle(id: string): Promise<void> {
    const { capabilities } = await this.engine()
    if (capabilities.snapshots) await this.#entries.housed(id).machine.suspend()
  }

  /** Destroys ready machines that would start from another template now, e.g. because the image has changed. */
  async #review(): Promise<void> {
    for (const entry of this.#entries.all().filter(isReady)) {
      const { template: name, memoryMib, vcpus } = entry.record.info()
      const shape = { name: name ?? DEFAULT_TEMPLATE, memoryMib, vcpus }
      try {
        if (entry.template !== undefined && (await this.#templates?.isOutdated(entry.template, shape)))
          this.#dropReady((other) => other === entry)
      } catch (err) {
        this.#options.log.warn({ err, ...shape }, 'a ready machine could not be compared with its template')
      }
    }
  }

  /** At once: whoever asks for a ready machine from now on gets none of these. */
  #dropReady(isMeant: (entry: Entry) => boolean): void {
    for (const entry of this.#entries.all().filter(isReady)) {
      if (!isMeant(entry)) continue
      entry.machine?.lose('The template it started from is out of date.') // which also destroys it
    }
  }
}

/** Whether nobody uses a machine yet. */
function isReady({ record, machine }: Entry): boolean {
  return machine !== undefined && record.info().userId === NOBODY && record.state === 'ready'
}
