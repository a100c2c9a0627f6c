import type { TaskEvent } from '../contracts/event.ts'
import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import type { Payloads } from './payloads.ts'
import { decodeEvent, endsTask, eventJson, type EventRecord } from './record.ts'

/** Where a task's log stands. */
export interface LogPosition {
  /** 0 where there is no event. */
  lastSeq: number
  /** The seq of the final `status` event, once there is one. */
  finalSeq: number | undefined
}

/** The log's rows and what is kept beside them. Knows nothing of readers and their waiting. */
export interface EventStore {
  position(taskId: string): Promise<LogPosition>
  /** Records from `from` on, oldest first. */
  page(taskId: string, from: number, limit: number): Promise<EventRecord[]>
  /** The event of a record; reads its body from beside the log if it lies there. */
  event(taskId: string, record: EventRecord): Promise<TaskEvent>
  /** The same as JSON in UTF-8. Encoded once for each record that lies in the log itself. */
  json(taskId: string, record: EventRecord): Promise<Buffer>
  /** Stores records of any number of tasks in one transaction. */
  insert(records: (EventRecord & { taskId: string })[]): Promise<void>
  remove(taskId: string): Promise<void>
}

/** Rows per statement, halved down to 1 for the rest: so there are few statement texts, and each is prepared once. */
const MAX_ROWS_PER_INSERT = 64

/** Rows per delete: a statement blocks the process while it runs. */
const ROWS_PER_DELETE = 5000

/** The tables and files behind the log. All calls reject with `storage_failed`. */
export function createEventStore(database: Database, payloads: Payloads): EventStore {
  const rows = (taskId: string) =>
    database.selectFrom('events').where('taskId', '=', taskId).select(['seq', 'at', 'type', 'bodyJson', 'payloadBytes'])

  const encoded = new WeakMap<EventRecord, Buffer>()

  const event = async (taskId: string, record: EventRecord) => {
    const body = record.payloadBytes === null ? record.bodyJson : await payloads.read(taskId, record.seq)
    return decodeEvent(taskId, record, body)
  }

  const json = async (taskId: string, record: EventRecord) => {
    // A large body is only held while it is sent.
    if (record.payloadBytes !== null)
      return Buffer.from(eventJson(taskId, record, await payloads.read(taskId, record.seq)))
    const bytes = encoded.get(record) ?? Buffer.from(eventJson(taskId, record, record.bodyJson))
    encoded.set(record, bytes)
    return bytes
  }

  return {
    position: (taskId) =>
      storing(`The events of ${taskId} can't be read`, async () => {
        const last = await rows(taskId).orderBy('seq', 'desc').limit(1).executeTakeFirst()
        // Nothing follows a final event: the last one tells, however long the log is.
        const ended = last?.type === 'status' && endsTask(await event(taskId, last))
        return { lastSeq: last?.seq ?? 0, finalSeq: ended ? last.seq : undefined }
      }),
    page: (taskId, from, limit) =>
      storing(`The events of ${taskId} can't be read`, () =>
        rows(taskId).where('seq', '>=', from).orderBy('seq').limit(limit).execute(),
      ),
    event: (taskId, record) => storing(`Event ${record.seq} of ${taskId} can't be read`, () => event(taskId, record)),
    json: (taskId, record) => storing(`Event ${record.seq} of ${taskId} can't be read`, () => json(taskId, record)),
    insert: (records) =>
      storing("Events can't be stored", () =>
        database.transaction().execute(async (trx) => {
          let size = MAX_ROWS_PER_INSERT
          for (let at = 0; at < records.length; at += size) {
            while (size > records.length - at) size /= 2
            await trx
              .insertInto('events')
              .values(records.slice(at, at + size))
              .execute()
          }
        }),
      ),
    remove: (taskId) =>
      storing(`The events of ${taskId} can't be removed`, async () => {
        const last = await rows(taskId).orderBy('seq', 'desc').limit(1).executeTakeFirst()
        for (let to = ROWS_PER_DELETE; to < (last?.seq ?? 0) + ROWS_PER_DELETE; to += ROWS_PER_DELETE) {
          await database.deleteFrom('events').where('taskId', '=', taskId).where('seq', '<=', to).execute()
        }
        await payloads.removeAll(taskId)
      }),
  }
}
