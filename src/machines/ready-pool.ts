import { VivariumError } from '../contracts/errors.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import { DEFAULT_TEMPLATE } from '../contracts/template.ts'
import type { Logger } from '../telemetry/types.ts'
import {
  NOBODY,
  type Capacity,
  type Machine,
  type Machines,
  type ReadyMachine,
  type ReadyPool,
  type ReadyWish,
  type WaitingAgent,
} from './types.ts'

/** What an agent that waits was started with. */
export type WaitingFor = NonNullable<ReadyWish['agent']>

/** So many machines of one template are to be ready. */
export interface ReadyKind {
  /** Null for the plain one. */
  template: string | null
  memoryMib: number
  vcpus: number
  /** Machines in which nothing runs yet. */
  machines: number
  /** Machines in which an agent waits. */
  agents: number
}

export interface ReadyPoolOptions {
  machines: Machines
  kinds: readonly ReadyKind[]
  /** Starts an agent in a machine, and resolves when it waits for its prompt. */
  startAgent: (machine: Machine, agent: WaitingFor, signal: AbortSignal) => Promise<WaitingAgent>
  /** With what agents are started now; undefined while there is no credential. */
  agent: () => WaitingFor | undefined
  capacity: Pick<Capacity, 'free' | 'shortage'>
  /** Without a task for so long, ready machines are let go. */
  idleMs: number
  /** Memory of the host that is free, as a share of all: ready machines are let go when there is little. */
  freeMemory: () => number
  /** How much of the host's processors had nothing to do since it was last asked, as a share of all. */
  idleProcessors: () => number
  log: Logger
}

const TEND_MS = 1000
const LOW_MEMORY = 0.1
/** Nothing is started below this: it would have to be let go again. */
const ENOUGH_MEMORY = 0.2
/** While somebody's machine runs, nothing is started where less than this is to spare: that machine would be the slower. */
const IDLE_ENOUGH = 0.6
/** So many seconds in a row, from the last time a machine was taken on: who has just got one is about to work. */
const CALM_TENDS = 3
/** Until what could not be made ready is tried again: twice as long after each failure in a row. */
const RETRY_MS = 60_000
const MAX_RETRY_MS = 30 * 60_000

interface Entry {
  kind: ReadyKind
  machine: Machine
  waiting: WaitingAgent | undefined
  /** Its agent's process has ended. */
  ended: boolean
}

/** What is kept ready: so many of a kind, with an agent or without. */
interface Ware {
  kind: ReadyKind
  /** Whether an agent waits in it. */
  waits: boolean
  count: number
  /** Failures in a row. */
  failures: number
  /** When it is tried again, on the clock of `performance`. */
  notBefore: number
}

/**
 * Machines that were started before anybody asked for them. Tended once a second: what is of no use any more goes, what is
 * missing is started, one at a time and only while no machine of somebody's is on its way.
 */
export function createReadyPool(options: ReadyPoolOptions): ReadyPool {
  return new Pool(options)
}

class Pool implements ReadyPool {
  readonly #options: ReadyPoolOptions
  readonly #entries = new Map<string, Entry>()
  /** Agents first, for they spare a task the most. */
  readonly #wares: readonly Ware[]
  readonly #closing = new AbortController()
  readonly #timer: NodeJS.Timeout
  #lastActivity = performance.now()
  /** Seconds in a row in which the processors had enough to spare. */
  #calm = 0
  #tending: Promise<void> | undefined
  #filling: Promise<void> | undefined

  constructor(options: ReadyPoolOptions) {
    this.#options = options
    const ware = (kind: ReadyKind, waits: boolean, count: number) => ({ kind, waits, count, failures: 0, notBefore: 0 })
    this.#wares = [
      ...options.kinds.map((kind) => ware(kind, true, kind.agents)),
      ...options.kinds.map((kind) => ware(kind, false, kind.machines)),
    ]
    this.#timer = setInterval(() => this.#tend(), TEND_MS).unref()
  }

  take(wish: ReadyWish): ReadyMachine | undefined {
    this.#lastActivity = performance.now()
    const fitting = [...this.#entries.values()].filter((entry) => this.#isFit(entry) && fits(entry.kind, wish))
    const { agent } = wish
    const waiting = agent && fitting.find((entry) => entry.waiting !== undefined && isFor(entry.waiting, agent))
    const chosen = waiting ?? fitting.find((entry) => entry.waiting === undefined)
    if (chosen === undefined) return undefined
    this.#calm = 0
    this.#entries.delete(chosen.machine.id)
    return { id: chosen.machine.id, waiting: chosen.waiting }
  }

  counts(): { machines: number; agents: number } {
    const fit = [...this.#entries.values()].filter((entry) => this.#isFit(entry))
    const agents = fit.filter(({ waiting }) => waiting !== undefined).length
    return { machines: fit.length - agents, agents }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    this.#closing.abort(new VivariumError('shutting_down', 'The server is shutting down.'))
    await Promise.all([this.#tending, this.#filling])
    await Promise.all([...this.#entries.keys()].map((id) => this.#release(id)))
  }

  #tend(): void {
    this.#tending ??= this.#attempt(() => this.#tendOnce()).finally(() => (this.#tending = undefined))
  }

  async #attempt(action: () => Promise<void>): Promise<void> {
    try {
      await action()
    } catch (err) {
      if (!this.#closing.signal.aborted) this.#options.log.error({ err }, 'the ready machines could not be tended')
    }
  }

  async #tendOnce(): Promise<void> {
    for (const [id, entry] of this.#entries) if (!this.#isFit(entry)) await this.#release(id)
    const { machines, idleMs, freeMemory, idleProcessors } = this.#options
    const others = machines.list().filter(({ userId, state }) => userId !== NOBODY && state !== 'suspended')
    if (others.length > 0) this.#lastActivity = performance.now()
    const isIdle = performance.now() - this.#lastActivity > idleMs
    const keep = () => !isIdle && freeMemory() > LOW_MEMORY && this.#hasRoom()
    while (this.#entries.size > 0 && !keep()) await this.#releaseOne()
    // Work that people wait for comes first.
    const isStarting = others.some(({ state }) => state === 'booting' || state === 'resuming')
    this.#calm = idleProcessors() >= IDLE_ENOUGH ? this.#calm + 1 : 0
    const isBusy = isStarting || (others.length > 0 && this.#calm < CALM_TENDS)
    if (isIdle || isBusy || this.#closing.signal.aborted || freeMemory() < ENOUGH_MEMORY) return
    // Not waited for: what is there is looked after meanwhile, and a template may take long to build.
    this.#filling ??= this.#attempt(() => this.#fill(others)).finally(() => (this.#filling = undefined))
  }

  async #fill(others: readonly MachineInfo[]): Promise<void> {
    const missing = this.#missing()
    if (missing !== undefined && this.#hasRoom(missing.kind)) return this.#start(missing)
    if (!others.some(isAtWork)) await this.#options.machines.templates.buildWanted()
  }

  /** What is to be started next. */
  #missing(): Ware | undefined {
    const present = [...this.#entries.values()]
    const hasAgent = this.#options.agent() !== undefined
    return this.#wares.find(({ kind, waits, count, notBefore }) => {
      const there = present.filter((entry) => entry.kind === kind && (entry.waiting !== undefined) === waits).length
      return there < count && notBefore <= performance.now() && (hasAgent || !waits)
    })
  }

  async #start(ware: Ware): Promise<void> {
    const { machines, startAgent, agent, log } = this.#options
    const { template, memoryMib, vcpus } = ware.kind
    const size = { memoryMib, vcpus }
    const { signal } = this.#closing
    let machine: Machine | undefined
    try {
      await machines.templates.build({ name: template ?? DEFAULT_TEMPLATE, ...size, rebuild: false }, { signal })
      const use = { userId: NOBODY, taskId: null, egress: null }
      machine = await machines.create({ ...use, ...size, ...(template !== null && { template }), signal })
      const waitingFor = ware.waits ? agent() : undefined
      const waiting = waitingFor && (await startAgent(machine, waitingFor, signal))
      const entry: Entry = { kind: ware.kind, machine, waiting, ended: false }
      void waiting?.ended.then(() => (entry.ended = true))
      this.#entries.set(machine.id, entry)
      ware.failures = 0
      log.debug({ machineId: machine.id, template, waiting: waiting !== undefined }, 'a machine is ready')
    } catch (err) {
      await machine?.destroy()
      if (signal.aborted) return
      ware.notBefore = performance.now() + Math.min(RETRY_MS * 2 ** ware.failures, MAX_RETRY_MS)
      ware.failures += 1
      log.warn({ err, template, ...size }, 'a machine could not be made ready')
    }
  }

  /** Whether there is room for the ready machines, and for one more. */
  #hasRoom(more?: ReadyKind): boolean {
    const { capacity } = this.#options
    const wanted = [...this.#entries.values()].map(({ kind }) => kind)
    if (more !== undefined) wanted.push(more)
    return capacity.shortage(wanted, capacity.free()) === undefined
  }

  #isFit({ machine, waiting, ended }: Entry): boolean {
    if (machine.info().state !== 'ready' || ended) return false
    const agent = this.#options.agent()
    return waiting === undefined || (agent !== undefined && isFor(waiting, agent))
  }

  /** Lets go of the machine that is the least loss: one without an agent, if there is one. */
  async #releaseOne(): Promise<void> {
    const entries = [...this.#entries]
    const [id] = entries.find(([, entry]) => entry.waiting === undefined) ?? entries[0] ?? []
    if (id !== undefined) await this.#release(id)
  }

  async #release(id: string): Promise<void> {
    const entry = this.#entries.get(id)
    this.#entries.delete(id)
    // What can't be removed is logged where it failed, and stays in the journal.
    await entry?.machine.destroy().catch(() => {})
  }
}

function fits(kind: ReadyKind, wish: ReadyWish): boolean {
  return kind.memoryMib === wish.memoryMib && kind.vcpus === wish.vcpus && kind.template === wish.template
}

/** Whether a task works in a machine. */
function isAtWork({ taskId, keepUntil }: MachineInfo): boolean {
  return taskId !== null && keepUntil === null
}

function isFor(waiting: WaitingAgent, { model, credentialKind }: WaitingFor): boolean {
  return waiting.model === model && waiting.credentialKind === credentialKind
}
