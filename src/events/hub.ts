import type { EventRecord } from './record.ts'
import type { LogPosition } from './store.ts'

/** How much of the recent log stays in memory. */
export interface HubLimits {
  /** Of each task. */
  maxEvents: number
  maxBytes: number
  /** Of all tasks together: bodies alone, which take as much again once somebody has read them. */
  maxTotalBytes: number
}

/** Bounds what all streams keep together: the one that was written to longest ago forgets first. */
class Memory {
  readonly #maxBytes: number
  /** In the order in which they were written to last. */
  readonly #streams = new Set<TaskStream>()
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** What a stream keeps has grown by `bytes`, perhaps less than 0. */
  grew(stream: TaskStream, bytes: number): void {
    this.#bytes += bytes
    this.#streams.delete(stream)
    if (stream.recentBytes > 0) this.#streams.add(stream)
    for (const oldest of this.#streams) {
      if (this.#bytes <= this.#maxBytes) return
      oldest.forget()
    }
  }
}

/** What this process knows of one task's log: where it stands, its newest records, who waits for more. */
export class TaskStream {
  readonly taskId: string
  readonly #limits: HubLimits
  readonly #memory: Memory
  readonly #load: (taskId: string) => Promise<LogPosition>
  readonly #waiting = new Set<() => void>()
  #recent: EventRecord[] = []
  #recentBytes = 0
  #loading: Promise<void> | undefined
  #position: LogPosition = { lastSeq: 0, finalSeq: undefined }
  #closed = false
  #ended = false

  /** When the append before has its place in the queue: appends of one task wait for each other here. */
  turn: Promise<void> = Promise.resolve()
  /** Settles when the newest append has; never rejects. */
  settled: Promise<void> = Promise.resolve()

  constructor(taskId: string, limits: HubLimits, memory: Memory, load: (taskId: string) => Promise<LogPosition>) {
    this.taskId = taskId
    this.#limits = limits
    this.#memory = memory
    this.#load = load
  }

  get lastSeq(): number {
    return this.#position.lastSeq
  }

  get finalSeq(): number | undefined {
    return this.#position.finalSeq
  }

  /** Bytes of bodies kept in memory. */
  get recentBytes(): number {
    return this.#recentBytes
  }

  /** Whether readers should leave: the task was removed. */
  get closed(): boolean {
    return this.#closed
  }

  /** Whether nothing more will come in this process: readers leave once they have what there is. */
  get ended(): boolean {
    return this.#ended
  }

  /** Whether the log alone tells everything that is known here. */
  get isForgettable(): boolean {
    return this.finalSeq !== undefined || this.#recent.length === 0
  }

  /** Learns from the log where the task stands, once; a failed attempt is made again by the next caller. */
  async load(): Promise<void> {
    this.#loading ??= this.reload()
    try {
      await this.#loading
    } catch (error) {
      this.#loading = undefined
      throw error
    }
  }

  /** Learns it anew: after a commit whose outcome is not known. */
  async reload(): Promise<void> {
    this.#position = await this.#load(this.taskId)
    this.forget()
    this.#wake()
  }

  /** Keeps nothing in memory: readers find it in the log. */
  forget(): void {
    const bytes = this.#recentBytes
    this.#recent = []
    this.#recentBytes = 0
    this.#memory.grew(this, -bytes)
  }

  /** Takes records that have become durable, the next ones in order, and wakes who waits for them. */
  publish(records: EventRecord[], finalSeq: number | undefined): void {
    const before = this.#recentBytes
    for (const record of records) {
      this.#recent.push(record)
      this.#recentBytes += Buffer.byteLength(record.bodyJson)
      this.#position = { lastSeq: record.seq, finalSeq: this.finalSeq ?? finalSeq }
    }
    while (this.#recent.length > this.#limits.maxEvents || this.#recentBytes > this.#limits.maxBytes) {
      this.#recentBytes -= Buffer.byteLength(this.#recent.shift()?.bodyJson ?? '')
    }
    this.#memory.grew(this, this.#recentBytes - before)
    this.#wake()
  }

  /** Up to `limit` records from `seq` on, or undefined where memory does not reach back to it. */
  recent(seq: number, limit: number): EventRecord[] | undefined {
    const oldest = this.#recent[0]
    if (oldest === undefined || seq < oldest.seq) return undefined
    const start = seq - oldest.seq
    return this.#recent.slice(start, start + limit)
  }

  /** Resolves when something has changed or `signal` aborts. */
  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#waiting.add(wake)
      signal.addEventListener('abort', wake)
      if (signal.aborted || this.#closed || this.#ended) wake()
    })
  }

  close(): void {
    this.#closed = true
    this.#wake()
  }

  end(): void {
    this.#ended = true
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
  }
}

/** The streams of tasks that someone writes or follows, or whose newest records are worth keeping. */
export class Hub {
  readonly #streams = new Map<string, { stream: TaskStream; holders: number }>()
  readonly #limits: HubLimits
  readonly #memory: Memory
  readonly #load: (taskId: string) => Promise<LogPosition>
  #ended = false

  constructor(limits: HubLimits, load: (taskId: string) => Promise<LogPosition>) {
    this.#limits = limits
    this.#memory = new Memory(limits.maxTotalBytes)
    this.#load = load
  }

  /** Number of tasks in memory. */
  get size(): number {
    return this.#streams.size
  }

  /** The task's stream, kept until the returned hold is disposed. */
  hold(taskId: string): { stream: TaskStream } & Disposable {
    const held = this.#streams.get(taskId) ?? {
      stream: new TaskStream(taskId, this.#limits, this.#memory, this.#load),
      holders: 0,
    }
    this.#streams.set(taskId, held)
    if (this.#ended) held.stream.end()
    held.holders += 1
    let isHeld = true
    return {
      stream: held.stream,
      [Symbol.dispose]: () => {
        if (isHeld) held.holders -= 1
        isHeld = false
        const isOver = held.holders === 0 && held.stream.isForgettable
        if (isOver && this.#streams.get(taskId) === held) this.#forget(taskId)
      },
    }
  }

  /** Lets the task's readers go and forgets it. */
  drop(taskId: string): void {
    this.#streams.get(taskId)?.stream.close()
    this.#forget(taskId)
  }

  /** Resolves when every append taken so far has ended, well or not. */
  async settled(): Promise<void> {
    await Promise.all([...this.#streams.values()].map(({ stream }) => stream.settled))
  }

  /** Nothing more will come: readers, also later ones, leave once they have what there is. */
  end(): void {
    this.#ended = true
    for (const { stream } of this.#streams.values()) stream.end()
  }

  #forget(taskId: string): void {
    this.#streams.get(taskId)?.stream.forget()
    this.#streams.delete(taskId)
  }
}
