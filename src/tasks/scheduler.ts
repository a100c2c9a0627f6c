import type { QueuePlace } from '../contracts/task.ts'
import type { Capacity, Claim, Room, Shortage } from '../machines/types.ts'
import { FairQueue, kindOf, type QueuedTask } from './queue.ts'

export interface SchedulerOptions {
  capacity: Capacity
  /** So much older does a level of priority make a task, in ms. */
  agingMs: number
  /** Why nothing is started at the moment, whatever room there is: what can't be written down would fail at once. */
  heldBackBy: () => string | undefined
  /** Runs a task to its end; never rejects. Resolves with what it waits for now where it is to be run again. */
  run: (id: string) => Promise<Waiting | undefined>
  /** Milliseconds since the epoch. */
  now: () => number
}

/** What a task waits for before it waits for its turn. */
export interface Waiting {
  /** Tasks that have to succeed first. */
  after: Set<string>
  /** It is not started before, in ms since the epoch; `why` says so to people. */
  notBefore: number
  why: string
}

interface Running {
  task: QueuedTask
  claim: Claim
  room: Disposable
}

/** A task whose room is kept for it, and those that were started since although it came before them. */
interface Reservation {
  task: QueuedTask
  overtakenBy: Set<string>
}

/** Disks get room, and machines of people end, without a word to us. */
const LOOK_AGAIN_MS = 5000

/**
 * Starts waiting tasks while there is room, in the order of `FairQueue`. Where a task does not fit yet and one behind it does, the first
 * gets a reservation: from then on others are started only in what it leaves of the whole host, so that it starts at the latest when
 * those have ended that ran at that time, however many small ones come. Only machines of people may delay it further; what can't be had
 * because of them alone is not waited for by others.
 */
export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #queue: FairQueue
  readonly #waiting = new Map<string, { task: QueuedTask; waiting: Waiting }>()
  readonly #running = new Map<string, Running>()
  #reservation: Reservation | undefined
  #timer: NodeJS.Timeout | undefined
  /** When the timer is over. */
  #timerAt = Infinity
  #isClosed = false

  constructor(options: SchedulerOptions) {
    const { agingMs, capacity } = options
    this.#options = options
    this.#queue = new FairQueue({ agingMs, limits: capacity.limits })
  }

  get queued(): number {
    return this.#queue.size
  }

  get running(): number {
    return this.#running.size
  }

  /** Whether nothing is started any more. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  /** How many tasks of a user wait. */
  queuedOf(userId: string): number {
    return this.#queue.sizeOf(userId)
  }

  enqueue(task: QueuedTask, waiting: Waiting): void {
    this.#waiting.set(task.id, { task, waiting })
    this.#queue.add(task)
    if (waiting.notBefore > 0) this.#lookAgainAt(waiting.notBefore)
    this.admit()
  }

  /** Takes a task out of the queue; false when it is not waiting any more. */
  remove(id: string): boolean {
    if (!this.#take(id)) return false
    this.admit()
    return true
  }

  /** Takes up a task that runs already, whatever room there is: it counts as one that was admitted, and is run to its end. */
  adopt(task: QueuedTask): void {
    this.#start(task)
  }

  /** A task has succeeded: those that wait for it have one less to wait for. */
  succeeded(id: string): void {
    for (const { waiting } of this.#waiting.values()) waiting.after.delete(id)
    this.admit()
  }

  /** The tasks that wait for the success of this one. */
  waitingFor(id: string): string[] {
    return [...this.#waiting.values()].flatMap(({ task, waiting }) => (waiting.after.has(id) ? [task.id] : []))
  }

  /** Starts whatever fits. Called when a task comes or ends and when machines change. */
  admit(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.#take(next.id)
      this.#start(next)
    }
    if (this.#queue.size > 0) this.#lookAgainAt(this.#options.now() + LOOK_AGAIN_MS)
  }

  /** How those of these tasks stand now that wait. */
  places(ids: readonly string[]): Map<string, QueuePlace> {
    const places = new Map<string, QueuePlace>()
    const asked = new Set(ids.filter((id) => this.#waiting.has(id)))
    if (asked.size === 0) return places
    const room = this.#options.capacity.free()
    let position = 0
    for (const task of this.#inLine()) {
      position += 1
      if (asked.has(task.id)) places.set(task.id, { position, reason: this.#reason(task, room, position - 1) })
    }
    for (const id of asked) if (!places.has(id)) places.set(id, { position: null, reason: this.#whyNotInLine(id) })
    return places
  }

  /** Admits nothing any more; returns the ids of those that run. */
  close(): string[] {
    this.#isClosed = true
    clearTimeout(this.#timer)
    return [...this.#running.keys()]
  }

  /** The task to start now, if there is one. Decides which one has a reservation. */
  #next(): QueuedTask | undefined {
    if (this.#isClosed || this.#queue.size === 0 || this.#options.heldBackBy() !== undefined) return undefined
    const room = this.#options.capacity.free()
    const fitting = new Set<string>()
    for (const task of this.#queue.kinds()) if (this.#shortage(task, room) === undefined) fitting.add(kindOf(task))
    if (fitting.size === 0) return undefined
    this.#reservation = this.#reservation && this.#couldFit([this.#reservation.task]) ? this.#reservation : undefined
    const held = this.#reservation?.task
    if (held !== undefined && fitting.has(kindOf(held))) return held
    return this.#firstOf(fitting)
  }

  /** The first one in order of those that fit, and leave a reserved room free. */
  #firstOf(fitting: ReadonlySet<string>): QueuedTask | undefined {
    const refused = new Set<string>()
    let passed: QueuedTask | undefined
    for (const task of this.#inOrder()) {
      const kind = kindOf(task)
      if (refused.has(kind)) continue
      if (!fitting.has(kind)) {
        if (passed === undefined && this.#couldFit([task])) passed = task
      } else {
        if (passed !== undefined) this.#reservation ??= { task: passed, overtakenBy: new Set() }
        if (this.#leavesReservedRoom(task)) return task
      }
      refused.add(kind)
    }
    return undefined
  }

  /** In the order in which they are likely to start. */
  *#inLine(): Generator<QueuedTask> {
    const held = this.#reservation?.task
    if (held !== undefined) yield held
    for (const task of this.#inOrder()) if (task !== held) yield task
  }

  #inOrder(): Iterable<QueuedTask> {
    const now = this.#options.now()
    return this.#queue.inOrder(({ id }) => {
      const { waiting } = this.#waiting.get(id) ?? {}
      return waiting !== undefined && waiting.after.size === 0 && waiting.notBefore <= now
    })
  }

  /** `room` is what is free for anybody; a machine to be taken over counts as free for its task alone. */
  #shortage(task: QueuedTask, room: Room): Shortage | undefined {
    const { capacity } = this.#options
    return capacity.shortage([task], task.takesOver === undefined ? room : capacity.free([claimOf(task)]))
  }

  #leavesReservedRoom(task: QueuedTask): boolean {
    if (this.#reservation === undefined) return true
    const { task: held, overtakenBy } = this.#reservation
    const before = [...overtakenBy].flatMap((id) => this.#running.get(id)?.task ?? [])
    return this.#couldFit([held, ...before, task])
  }

  /** Whether these fit once all that run now have ended. */
  #couldFit(tasks: readonly QueuedTask[]): boolean {
    const { capacity } = this.#options
    const claims = [...[...this.#running.values()].map(({ claim }) => claim), ...tasks.map(claimOf)]
    return capacity.shortage(tasks, capacity.free(claims)) === undefined
  }

  #take(id: string): boolean {
    const { task } = this.#waiting.get(id) ?? {}
    if (task === undefined) return false
    this.#waiting.delete(id)
    this.#queue.remove(task)
    if (this.#reservation?.task === task) this.#reservation = undefined
    return true
  }

  #start(task: QueuedTask): void {
    const claim = claimOf(task)
    this.#running.set(task.id, { task, claim, room: this.#options.capacity.take(claim) })
    this.#reservation?.overtakenBy.add(task.id)
    this.#queue.started(task)
    void this.#run(task)
  }

  async #run(task: QueuedTask): Promise<void> {
    let waiting: Waiting | undefined
    try {
      waiting = await this.#options.run(task.id)
    } finally {
      this.#running.get(task.id)?.room[Symbol.dispose]()
      this.#running.delete(task.id)
      this.#reservation?.overtakenBy.delete(task.id)
      this.#queue.ended(task)
      if (waiting === undefined) this.admit()
      else this.enqueue(task, waiting)
    }
  }

  /** Lets `admit` be called at this time at the latest. */
  #lookAgainAt(at: number): void {
    if (this.#isClosed || at >= this.#timerAt) return
    clearTimeout(this.#timer)
    this.#timerAt = at
    this.#timer = setTimeout(() => this.#lookAgain(), Math.max(0, at - this.#options.now())).unref()
  }

  #lookAgain(): void {
    this.#timerAt = Infinity
    this.admit()
    const now = this.#options.now()
    for (const { waiting } of this.#waiting.values()) if (waiting.notBefore > now) this.#lookAgainAt(waiting.notBefore)
  }

  #whyNotInLine(id: string): string {
    const { after, notBefore, why } = this.#waiting.get(id)?.waiting ?? { after: new Set(), notBefore: 0, why: '' }
    if (this.#isClosed) return CLOSED
    if (after.size > 0) return `waiting for the success of ${[...after].join(', ')}`
    return `waiting until ${new Date(notBefore).toISOString()}: ${why}`
  }

  #reason(task: QueuedTask, room: Room, ahead: number): string {
    if (this.#isClosed) return CLOSED
    const heldBack = this.#options.heldBackBy()
    if (heldBack !== undefined) return `waiting for the disk: ${heldBack}`
    const what = this.#shortage(task, room)?.words ?? 'its turn'
    return `waiting for ${what}${ahead === 0 ? '' : `: ${ahead} task${ahead === 1 ? '' : 's'} ahead`}`
  }
}

const CLOSED = 'waiting for the next start of the server'

/** The machine of a task, and the one that it may take over, are what its room is for. */
function claimOf({ id, takesOver, memoryMib, vcpus }: QueuedTask): Claim {
  return { ids: takesOver === undefined ? [id] : [id, takesOver], memoryMib, vcpus }
}
