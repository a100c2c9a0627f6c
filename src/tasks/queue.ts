import type { Priority } from '../contracts/task.ts'
import type { CapacityLimits, MachineSize } from '../machines/types.ts'
import type { UnfinishedTask } from './task-store.ts'

/** A task as the scheduler knows it. */
export interface QueuedTask extends MachineSize {
  id: string
  userId: string
  priority: Priority
  /** Since when it waits, in ms since the epoch. */
  since: number
  /** The finished task whose kept machine it goes on in, if that is still there: it needs no room of its own then. */
  takesOver: string | undefined
}

/** A stored task as the scheduler knows it. */
export function queuedTask(task: Pick<UnfinishedTask, 'id' | 'userId' | 'request' | 'createdAt'>): QueuedTask {
  const { id, userId, request, createdAt } = task
  const { priority, memoryMib, vcpus, continues, fork } = request
  const takesOver = fork === true ? undefined : continues
  return { id, userId, priority, memoryMib, vcpus, takesOver, since: new Date(createdAt).getTime() }
}

export interface FairQueueOptions {
  /** So much older does a level of priority make a task, in ms. */
  agingMs: number
  limits: Pick<CapacityLimits, 'machines' | 'memoryMib' | 'vcpus'>
}

const LEVEL: Record<Priority, number> = { low: 0, normal: 1, high: 2 }

/** What a user's tasks take. */
interface Load extends MachineSize {
  machines: number
}

/** One user: the tasks that wait, in order, and what those take that run. */
interface Line {
  tasks: QueuedTask[]
  load: Load
  /** How many starts there had been when one of theirs was started last; 0: never. */
  lastTurn: number
}

/**
 * Who is next. Between users, the one who has the smallest share of this host goes first (the largest of their shares of machines, memory
 * and processors: Dominant Resource Fairness, Ghodsi et al., NSDI 2011); among equals the one whose last start is longest ago. So
 * five hundred tasks of one user delay another's only one by a single start.
 *
 * Among one user's tasks the oldest goes first, where each level of priority makes a task older by `agingMs`: a high one passes all normal
 * ones that came up to so much before it. Since all grow older alike, the order of two tasks never changes, and a low one is passed only
 * by those that come within twice that time after it. Priority is between the tasks of one user: raising it takes nothing from others.
 */
export class FairQueue {
  readonly #options: FairQueueOptions
  readonly #lines = new Map<string, Line>()
  /** One task of each kind, and how many of them wait. */
  readonly #kinds = new Map<string, { task: QueuedTask; count: number }>()
  #turns = 0
  #size = 0

  constructor(options: FairQueueOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#size
  }

  /** How many tasks of a user wait. */
  sizeOf(userId: string): number {
    return this.#lines.get(userId)?.tasks.length ?? 0
  }

  /** One task of each kind that waits: all of a kind need the same room. */
  *kinds(): Generator<QueuedTask> {
    for (const { task } of this.#kinds.values()) yield task
  }

  add(task: QueuedTask): void {
    const { tasks } = this.#line(task.userId)
    const born = this.#born(task)
    tasks.splice(tasks.findLastIndex((other) => this.#born(other) <= born) + 1, 0, task)
    this.#size += 1
    const kind = kindOf(task)
    this.#kinds.set(kind, { task, count: (this.#kinds.get(kind)?.count ?? 0) + 1 })
  }

  remove(task: QueuedTask): void {
    const { tasks } = this.#line(task.userId)
    tasks.splice(tasks.indexOf(task), 1)
    this.#size -= 1
    const kind = kindOf(task)
    const { count = 0, task: other = task } = this.#kinds.get(kind) ?? {}
    if (count > 1) this.#kinds.set(kind, { task: other, count: count - 1 })
    else this.#kinds.delete(kind)
  }

  /** A task runs from now on: its user has had a turn. */
  started(task: QueuedTask): void {
    const line = this.#line(task.userId)
    line.lastTurn = this.#turns += 1
    line.load = plus(line.load, task)
  }

  ended({ userId, memoryMib, vcpus }: QueuedTask): void {
    const line = this.#line(userId)
    const { load } = line
    line.load = { machines: load.machines - 1, memoryMib: load.memoryMib - memoryMib, vcpus: load.vcpus - vcpus }
  }

  /** The tasks that may start, in the order in which they would if they did so one after the other and none ended. */
  *inOrder(mayStart: (task: QueuedTask) => boolean): Generator<QueuedTask> {
    let turns = this.#turns
    const lines = [...this.#lines.values()].map((line) => ({
      ...line,
      tasks: line.tasks.filter(mayStart).toReversed(),
      share: this.#share(line.load),
    }))
    for (;;) {
      let next: (typeof lines)[number] | undefined
      for (const line of lines) if (line.tasks.length > 0 && (!next || this.#goesBefore(line, next))) next = line
      const task = next?.tasks.pop()
      if (next === undefined || task === undefined) return
      yield task
      next.lastTurn = turns += 1
      next.load = plus(next.load, task)
      next.share = this.#share(next.load)
    }
  }

  #goesBefore(one: Line & { share: number }, other: Line & { share: number }): boolean {
    if (one.share !== other.share) return one.share < other.share
    if (one.lastTurn !== other.lastTurn) return one.lastTurn < other.lastTurn
    return this.#bornOfFirst(one) < this.#bornOfFirst(other)
  }

  #bornOfFirst({ tasks }: Line): number {
    const first = tasks.at(-1)
    return first === undefined ? Infinity : this.#born(first)
  }

  /** When a task of the lowest priority would have come that is as old as this one. */
  #born({ since, priority }: QueuedTask): number {
    return since - LEVEL[priority] * this.#options.agingMs
  }

  #share({ machines, memoryMib, vcpus }: Load): number {
    const { limits } = this.#options
    return Math.max(machines / limits.machines, memoryMib / limits.memoryMib, vcpus / limits.vcpus)
  }

  #line(userId: string): Line {
    const known = this.#lines.get(userId)
    if (known !== undefined) return known
    // It stays: who has had a turn must not seem to be new.
    const line: Line = { tasks: [], load: { machines: 0, memoryMib: 0, vcpus: 0 }, lastTurn: 0 }
    this.#lines.set(userId, line)
    return line
  }
}

/** What tasks have in common that need the same room. */
export function kindOf({ id, memoryMib, vcpus, takesOver }: QueuedTask): string {
  return takesOver === undefined ? `${memoryMib} ${vcpus}` : id
}

function plus({ machines, ...load }: Load, { memoryMib, vcpus }: MachineSize): Load {
  return { machines: machines + 1, memoryMib: load.memoryMib + memoryMib, vcpus: load.vcpus + vcpus }
}
