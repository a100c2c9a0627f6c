import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { Images } from '../images/types.ts'
import type { GuestLink } from '../link/types.ts'
import type { Database } from '../store/database.ts'
import type { Logger } from '../telemetry/types.ts'
import { bootMachine, type LinkOptions } from './boot-machine.ts'
import { removeIfEmpty } from './folders.ts'
import { Journal } from './journal.ts'
import { refuseTooLarge, type SizeLimits } from './limits.ts'
import { reconcile } from './reconcile.ts'
import { MachineRecord } from './record.ts'
import type { RunningMachine } from './running-machine.ts'
import type { Engine, Machine, MachineOptions, Machines } from './types.ts'

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
  linkFactory: (options: LinkOptions) => GuestLink
  log: Logger
}

interface Entry {
  record: MachineRecord
  /** Ends the boot with a reason. */
  boot: AbortController
  /** Settles when the machine is ready, or has failed and everything it made is removed. */
  booted: Promise<RunningMachine>
  machine: RunningMachine | undefined
}

/** The machines of one orchestrator: boots them, knows them, and removes what an earlier orchestrator left. */
export function createMachines(options: MachinesOptions): Machines {
  return new JournaledMachines(options)
}

class JournaledMachines implements Machines {
  readonly #options: MachinesOptions
  readonly #journal: Journal
  readonly #entries = new Map<string, Entry>()
  readonly #listeners = new Set<(info: MachineInfo) => void>()
  #closing: VivariumError | undefined
  #engine: Promise<Engine> | undefined

  constructor(options: MachinesOptions) {
    this.#options = options
    this.#journal = new Journal(options.database)
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
    if (this.#closing !== undefined) throw this.#closing
    const entry = this.#begin(request, engine)
    try {
      entry.machine = await entry.booted
      return entry.machine
    } catch (error) {
      throw this.#bootError(entry.record.id, error)
    }
  }

  get(id: string): Machine | undefined {
    return this.#entries.get(id)?.machine
  }

  list(): MachineInfo[] {
    return [...this.#entries.values()].map(({ record }) => record.info())
  }

  async evict(id: string, reason: string): Promise<void> {
    const entry = this.#entries.get(id)
    if (entry === undefined) throw new VivariumError('not_found', `There is no machine ${id}.`)
    await this.#end(entry, new VivariumError('cancelled', reason))
  }

  watch(listener: (info: MachineInfo) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  reconcile(): Promise<string[]> {
    return reconcile({ ...this.#options, journal: this.#journal, isCurrent: (id) => this.#entries.has(id) })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closing = new VivariumError('shutting_down', 'The server is shutting down.')
    this.#closing = closing
    await Promise.allSettled([...this.#entries.values()].map((entry) => this.#end(entry, closing)))
    await removeIfEmpty(this.#options.runDir)
  }

  async #chooseEngine(): Promise<Engine> {
    await this.#options.images.ensure() // an engine is tried with it
    return this.#options.chooseEngine()
  }

  /** Enters a machine into the list and starts its boot. */
  #begin(request: MachineOptions, engine: Engine): Entry {
    const { id = newId('vm'), userId, taskId, memoryMib, vcpus } = request
    const notify = (info: MachineInfo) => {
      request.onChange?.(info)
      for (const listener of this.#listeners) listener(info)
    }
    const createdAt = new Date().toISOString()
    const record = new MachineRecord({ id, userId, taskId, engine: engine.name, memoryMib, vcpus, createdAt }, notify)
    const forget = () => {
      this.#entries.delete(id)
      record.become('gone')
    }
    const boot = new AbortController()
    const signal = request.signal === undefined ? boot.signal : AbortSignal.any([boot.signal, request.signal])
    const { promise, resolve } = Promise.withResolvers<RunningMachine>()
    const entry: Entry = { record, boot, booted: promise, machine: undefined }
    this.#entries.set(id, entry) // before the first step is announced
    resolve(bootMachine({ ...this.#options, journal: this.#journal, engine }, request, record, forget, signal))
    return entry
  }

  async #end(entry: Entry, reason: VivariumError): Promise<void> {
    entry.boot.abort(reason)
    const machine = await entry.booted.catch(() => undefined) // its creator hears of it
    machine?.lose(reason.message)
    await machine?.destroy()
  }

  /** What ended a boot. If removing its remains failed too, that is logged: they stay in the journal for `reconcile`. */
  #bootError(machineId: string, error: unknown): unknown {
    if (!(error instanceof SuppressedError)) return error
    this.#options.log.error({ err: error.error, machineId }, 'a machine that did not start could not be removed')
    return this.#bootError(machineId, error.suppressed)
  }
}
