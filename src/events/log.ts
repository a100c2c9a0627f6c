import { VivariumError } from '../contracts/errors.ts'
import type { NewEvent, TaskEvent } from '../contracts/event.ts'
import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import type { Storage } from '../store/types.ts'
import { Committer, type CommitLimits, type StagedEvent } from './committer.ts'
import { follow } from './follow.ts'
import { Hub, type HubLimits } from './hub.ts'
import { openPayloads, type StagedPayload } from './payloads.ts'
import { encodeEvent, type EncodedEvent } from './record.ts'
import { createEventStore } from './store.ts'
import type { Checkpoint, EventLog } from './types.ts'

export interface EventLogOptions extends Partial<HubLimits & CommitLimits> {
  database: Database
  /** Its patience is what appends have while the disk takes nothing. */
  storage: Pick<Storage, 'persist'>
  /** Folder for bodies that are too large for a row. */
  payloadDir: string
  /** Bodies above this many bytes are kept beside the log. */
  inlineBytes?: number
}

const MIB = 1024 * 1024

const DEFAULTS = {
  maxEvents: 1000,
  maxBytes: 8 * MIB,
  maxTotalBytes: 64 * MIB,
  windowMs: 2,
  maxBatchBytes: 4 * MIB,
  maxBatchEvents: 1000,
  inlineBytes: 64 * 1024,
}

/** One answer of `read` ends with the event that reaches this. */
const MAX_READ_BYTES = 16 * MIB
const READ_PAGE = 128

/** Opens the log. Only one process at a time may write to a database's events. Rejects with `storage_failed`. */
export async function openEventLog(options: EventLogOptions): Promise<EventLog> {
  const settings = { ...DEFAULTS, ...options }
  const payloads = await storing(`The folder ${options.payloadDir} can't be used`, () =>
    openPayloads(options.payloadDir),
  )
  const store = createEventStore(options.database, payloads)
  const hub = new Hub(settings, store.position)
  const committer = new Committer(store, payloads, options.storage, settings)
  let isClosed = false

  const append = async (taskId: string, events: NewEvent[], checkpoint?: Checkpoint): Promise<number> => {
    if (isClosed) throw new VivariumError('storage_failed', 'The event log is closed.')
    const at = new Date().toISOString()
    const encoded = events.map((event) => encodeEvent(event, at))
    const checkpointJson = checkpoint && JSON.stringify(checkpoint)
    using held = hub.hold(taskId)
    const { stream } = held
    const before = stream.turn
    const queued = Promise.withResolvers<void>()
    const settled = Promise.withResolvers<void>()
    stream.turn = queued.promise
    stream.settled = Promise.all([stream.settled, settled.promise]).then(() => undefined)
    try {
      await before
      await options.storage.persist(() => stream.load())
      if (encoded.length === 0 && checkpoint === undefined) return stream.lastSeq
      await using staged = new AsyncDisposableStack()
      const ready = await stageLarge(encoded, settings.inlineBytes, async (event) =>
        staged.use(
          await options.storage.persist(() =>
            storing(`A large event of ${taskId} can't be stored`, () => payloads.stage(event.body)),
          ),
        ),
      )
      const committed = committer.commit(stream, ready, checkpointJson)
      queued.resolve()
      return await committed
    } finally {
      queued.resolve()
      settled.resolve()
    }
  }

  const read = async (taskId: string, from: number, limit: number): Promise<TaskEvent[]> => {
    const events: TaskEvent[] = []
    let bytes = 0
    for (let next = from; events.length < limit && bytes < MAX_READ_BYTES;) {
      const page = await store.page(taskId, next, Math.min(READ_PAGE, limit - events.length))
      for (const record of page) {
        if (bytes >= MAX_READ_BYTES) break
        events.push(await store.event(taskId, record))
        bytes += record.payloadBytes ?? record.bodyJson.length
        next = record.seq + 1
      }
      if (page.length < READ_PAGE) break
    }
    return events
  }

  return {
    append,
    checkpoint: store.checkpoint,
    usage: store.usage,
    ending: store.ending,
    read,
    follow: (taskId, from, signal) =>
      follow({ hub, store, taskId, from, signal }, (record) => store.event(taskId, record)),
    followJson: (taskId, from, signal) =>
      follow({ hub, store, taskId, from, signal }, async (record) => ({
        seq: record.seq,
        json: await store.json(taskId, record),
      })),
    async remove(taskId) {
      using held = hub.hold(taskId)
      await held.stream.settled
      hub.drop(taskId)
      await store.remove(taskId)
    },
    async [Symbol.asyncDispose]() {
      isClosed = true
      await hub.settled()
      hub.end()
    },
  }
}

/** Writes large bodies out, one at a time, before the append takes its place in the queue: they hold back only their own task. */
async function stageLarge(
  events: EncodedEvent[],
  inlineBytes: number,
  stage: (event: EncodedEvent) => Promise<StagedPayload>,
): Promise<StagedEvent[]> {
  const ready: StagedEvent[] = []
  for (const event of events) {
    ready.push({ ...event, staged: event.bytes > inlineBytes ? await stage(event) : undefined })
  }
  return ready
}
