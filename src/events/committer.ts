import { setImmediate as yieldToOthers, setTimeout as sleep } from 'node:timers/promises'
import { VivariumError } from '../contracts/errors.ts'
import { storing } from '../store/failures.ts'
import type { Storage } from '../store/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import type { TaskStream } from './hub.ts'
import type { Payloads, StagedPayload } from './payloads.ts'
import type { EncodedEvent, EventRecord } from './record.ts'
import type { EventStore, StoredCheckpoints } from './store.ts'

/** How appends are gathered into transactions. */
export interface CommitLimits {
  /** Milliseconds that the first append of a transaction waits for others. Grows with what a commit takes, up to 50. */
  windowMs: number
  /** A transaction ends with the append that reaches either. */
  maxBatchBytes: number
  maxBatchEvents: number
}

/** An event with its staged body, if that is to lie beside the log. */
export interface StagedEvent extends EncodedEvent {
  staged: StagedPayload | undefined
}

interface Append {
  stream: TaskStream
  events: StagedEvent[]
  bytes: number
  /** JSON. */
  checkpoint: string | undefined
  resolve(lastSeq: number): void
  reject(error: unknown): void
}

/** An append with its place in the log. */
interface Placed {
  append: Append
  records: EventRecord[]
}

/** Also the longest that a commit on a slow disk makes the next one wait. */
const MAX_WINDOW_MS = 1000

/** Group commit: one transaction at a time, each with the appends that came while the one before was written. */
export class Committer {
  readonly #store: EventStore
  readonly #payloads: Payloads
  readonly #storage: Pick<Storage, 'persist'>
  readonly #limits: CommitLimits
  readonly #queue: Append[] = []
  #queuedBytes = 0
  #queuedEvents = 0
  #isRunning = false
  #lastCommitMs = 0

  constructor(store: EventStore, payloads: Payloads, storage: Pick<Storage, 'persist'>, limits: CommitLimits) {
    this.#store = store
    this.#payloads = payloads
    this.#storage = storage
    this.#limits = limits
  }

  /** Queues an append of a loaded stream; resolves with its last seq when it is durable and published. */
  commit(stream: TaskStream, events: StagedEvent[], checkpoint: string | undefined): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    const bytes = events.reduce((sum, event) => sum + event.bytes, 0)
    this.#queue.push({ stream, events, bytes, checkpoint, resolve, reject })
    this.#queuedBytes += bytes
    this.#queuedEvents += events.length
    if (!this.#isRunning) void this.#run()
    return promise
  }

  /** Never rejects: each append carries its own outcome. */
  async #run(): Promise<void> {
    this.#isRunning = true
    while (this.#queue.length > 0) {
      await this.#gather()
      const start = performance.now()
      await this.#write(this.#takeBatch())
      this.#lastCommitMs = performance.now() - start
    }
    this.#isRunning = false
  }

  /**
   * Waits for more to come. SQLite's commit blocks this process, so the wait is at least as long as the last commit took:
   * that leaves half of the time to everything else. A full batch waits for one turn of the event loop only.
   */
  async #gather(): Promise<void> {
    const isFull = this.#queuedBytes >= this.#limits.maxBatchBytes || this.#queuedEvents >= this.#limits.maxBatchEvents
    if (isFull) await yieldToOthers()
    else await sleep(Math.min(Math.max(this.#limits.windowMs, this.#lastCommitMs), MAX_WINDOW_MS))
  }

  #takeBatch(): Append[] {
    let bytes = 0
    let events = 0
    let count = 0
    for (const append of this.#queue) {
      if (count > 0 && (bytes >= this.#limits.maxBatchBytes || events >= this.#limits.maxBatchEvents)) break
      bytes += append.bytes
      events += append.events.length
      count += 1
    }
    this.#queuedBytes -= bytes
    this.#queuedEvents -= events
    return this.#queue.splice(0, count)
  }

  async #write(batch: Append[]): Promise<void> {
    const placed = await this.#place(batch)
    try {
      await this.#insert(placed)
      crashPoint('events stored')
    } catch (error) {
      await this.#undo(placed)
      for (const { append } of placed) append.reject(error)
      return
    }
    for (const { append, records } of placed) {
      append.stream.publish(records, append.events.at(-1)?.isFinal === true ? records.at(-1)?.seq : undefined)
      append.resolve(append.stream.lastSeq)
    }
  }

  /** Tries again while the disk takes nothing: the batch waits, those behind it queue, and who awaits them is held back. */
  async #insert(placed: Placed[]): Promise<void> {
    if (placed.length === 0) return
    const rows = placed.flatMap(({ append, records }) =>
      records.map((record) => ({ taskId: append.stream.taskId, ...record })),
    )
    const last = rows.at(-1)
    let isFirst = true
    await this.#storage.persist(async () => {
      // A commit that failed may be in the log all the same, whole.
      if (!isFirst && last !== undefined && (await this.#store.position(last.taskId)).lastSeq >= last.seq) return
      isFirst = false
      await this.#store.insert(rows, checkpointsOf(placed))
    })
  }

  /** Gives every event its seq and every large body its file. An append that fails here is rejected alone. */
  async #place(batch: Append[]): Promise<Placed[]> {
    const placed: Placed[] = []
    const lastSeqs = new Map<TaskStream, number>()
    const ended = new Set<TaskStream>()
    for (const append of batch) {
      const { stream, events } = append
      const final = events.findIndex((event) => event.isFinal)
      if (stream.finalSeq !== undefined || ended.has(stream) || (final !== -1 && final < events.length - 1)) {
        append.reject(new VivariumError('conflict', `The log of ${stream.taskId} has its final event.`))
        continue
      }
      const lastSeq = lastSeqs.get(stream) ?? stream.lastSeq
      const records = events.map((event, index) => toRecord(event, lastSeq + 1 + index))
      try {
        await this.#placePayloads(append, records)
        lastSeqs.set(stream, lastSeq + records.length)
        if (final !== -1) ended.add(stream)
        placed.push({ append, records })
      } catch (error) {
        append.reject(error)
      }
    }
    return placed
  }

  async #placePayloads({ stream, events }: Append, records: EventRecord[]): Promise<void> {
    for (const [index, { staged }] of events.entries()) {
      const record = records[index]
      if (staged === undefined || record === undefined) continue
      crashPoint('payload staged')
      await this.#storage.persist(() =>
        storing(`A large event of ${stream.taskId} can't be stored`, () =>
          this.#payloads.place(staged, stream.taskId, record.seq),
        ),
      )
      crashPoint('payload placed')
    }
  }

  /** After a failed transaction: its files go, and the streams learn from the log how it really ended. */
  async #undo(placed: Placed[]): Promise<void> {
    const streams = new Set(placed.map(({ append }) => append.stream))
    // Best effort, as storage is failing: a file left over is overwritten by the next body with its seq, or goes with
    // the task; a stream that can't be reloaded stays where it was.
    await Promise.allSettled([...streams].map((stream) => stream.reload()))
    for (const { append, records } of placed) {
      const lost = records.filter((record) => record.payloadBytes !== null && record.seq > append.stream.lastSeq)
      await Promise.allSettled(lost.map((record) => this.#payloads.remove(append.stream.taskId, record.seq)))
    }
  }
}

/** The newest checkpoint of each task; a task that has ended needs none. */
function checkpointsOf(placed: Placed[]): StoredCheckpoints {
  const newest = new Map<string, string | null>()
  for (const { append } of placed) {
    const { checkpoint, events, stream } = append
    if (events.some((event) => event.isFinal)) newest.set(stream.taskId, null)
    else if (checkpoint !== undefined) newest.set(stream.taskId, checkpoint)
  }
  return newest
}

function toRecord(event: StagedEvent, seq: number): EventRecord {
  const isBeside = event.staged !== undefined
  return {
    seq,
    at: event.at,
    type: event.type,
    bodyJson: isBeside ? '' : event.body,
    payloadBytes: isBeside ? event.bytes : null,
  }
}
