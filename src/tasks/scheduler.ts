import type { Priority } from '../contracts/task.ts'

/** A task that waits for its machine. */
export interface QueuedTask {
  id: string
  priority: Priority
  memoryMib: number
  /** The finished task whose kept machine it goes on in, if that is still there: it needs no room of its own then. */
  takesOver: string | undefined
}

export interface SchedulerOptions {
  totalMemoryMib: number
  maxMachines: number
  /** What machines take at the moment, but for those of the tasks named. */
  others: (but: ReadonlySet<string>) => { count: number; memoryMib: number }
  /** Runs an admitted task to its end; never rejects. */
  run: (id: string) => Promise<void>
}

const RANK: Record<Priority, number> = { high: 0, normal: 1, low: 2 }

/**
 * Admits tasks by memory and number of machines: higher priority first, then first come, first served. A task at the head that does
 * not fit yet is waited for, never overtaken, so that a large one is not starved by small ones.
 */
export class Scheduler {
  readonly #options: SchedulerOptions
  #queue: QueuedTask[] = []
  readonly #running = new Map<string, QueuedTask>()
  #isClosed = false

  constructor(options: SchedulerOptions) {
    this.#options = options
  }

  get queued(): number {
    return this.#queue.length
  }

  enqueue(task: QueuedTask): void {
    const behind = this.#queue.findIndex((other) => RANK[other.priority] > RANK[task.priority])
    this.#queue.splice(behind === -1 ? this.#queue.length : behind, 0, task)
    this.admit()
  }

  /** Takes a task out of the queue; false when it is not waiting any more. */
  remove(id: string): boolean {
    const before = this.#queue.length
    this.#queue = this.#queue.filter((task) => task.id !== id)
    if (this.#queue.length === before) return false
    this.admit()
    return true
  }

  /** Starts whatever fits. Called when a task comes or ends and when machines change. */
  admit(): void {
    for (let head = this.#queue[0]; head !== undefined && this.#fits(head); head = this.#queue[0]) {
      this.#queue.shift()
      this.#start(head)
    }
  }

  /** Takes up a task that runs already, whatever room there is: it counts as one that was admitted, and is run to its end. */
  adopt(task: QueuedTask): void {
    this.#start(task)
  }

  /** Admits nothing any more; returns the ids of those that run. */
  close(): string[] {
    this.#isClosed = true
    return [...this.#running.keys()]
  }

  #start(task: QueuedTask): void {
    this.#running.set(task.id, task)
    void this.#run(task.id)
  }

  async #run(id: string): Promise<void> {
    try {
      await this.#options.run(id)
    } finally {
      this.#running.delete(id)
      this.admit()
    }
  }

  #fits(task: QueuedTask): boolean {
    if (this.#isClosed) return false
    const own = [...this.#running.values(), task].flatMap(({ id, takesOver }) => [id, takesOver ?? id])
    const others = this.#options.others(new Set(own))
    const memory = [...this.#running.values()].reduce((sum, running) => sum + running.memoryMib, others.memoryMib)
    return (
      this.#running.size + others.count < this.#options.maxMachines &&
      memory + task.memoryMib <= this.#options.totalMemoryMib
    )
  }
}
