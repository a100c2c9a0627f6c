import type { TaskEvent } from '../contracts/event.ts'
import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import type { Payloads } from './payloads.ts'
import { decodeEvent, endsTask, eventJson, type EventRecord } from './record.ts'
import type { Checkpoint, StatusEvent, UsageEvent } from './types.ts'

/** Where a task's log stands. */
export interface LogPosition {
  /** 0 where there is no event. */
  lastSeq: number
  /** The seq of the final `status` event, once there is one. */
  finalSeq: number | undefined
}

/** JSON by task; null removes it. */
export type StoredCheckpoints = ReadonlyMap<string, string | null>

/** The log's rows and what is kept beside them. Knows nothing of readers and their waiting. */
export interface EventStore {
  /** Also clears away what a killed process left behind the end. */
  position(taskId: string): Promise<LogPosition>
  /** The `usage` events, in order. */
  usage(taskId: string): Promise<UsageEvent[]>
  /** The final `status` event, once there is one. */
  ending(taskId: string): Promise<StatusEvent | undefined>
  /** Records from `from` on, oldest first. */
  page(taskId: string, from: number, limit: number): Promise<EventRecord[]>
  /** The event of a record; reads its body from beside the log if it lies there. */
  event(taskId: string, record: EventRecord): Promise<TaskEvent>
  /** The same as JSON in UTF-8. Encoded once for each record that lies in the log itself. */
  json(taskId: string, record: EventRecord): Promise<Buffer>
  /** Stores records of any number of tasks in one transaction, and with them where the tasks' sources are read on. */
  insert(records: (EventRecord & { taskId: string })[], checkpoints?: StoredCheckpoints): Promise<void>
  checkpoint(taskId: string): Promise<Checkpoint | undefined>
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

  const newest = (taskId: string) => rows(taskId).orderBy('seq', 'desc').limit(1).executeTakeFirst()

  /** Nothing follows a final event: the newest one tells, however long the log is. */
  const asEnding = async (taskId: string, newest: EventRecord | undefined) => {
    if (newest?.type !== 'status') return undefined
    const status = await event(taskId, newest)
    return status.type === 'status' && endsTask(status) ? status : undefined
  }

  return {
    position: (taskId) =>
      storing(`The events of ${taskId} can't be read`, async () => {
        const last = await newest(taskId)
        await payloads.removeBehind(taskId, last?.seq ?? 0)
        return { lastSeq: last?.seq ?? 0, finalSeq: (await asEnding(taskId, last))?.seq }
      }),
    usage: (taskId) =>
      storing(`The events of ${taskId} can't be read`, async () => {
        const records = await rows(taskId).where('type', '=', 'usage').orderBy('seq').execute()
        const events = await Promise.all(records.map((record) => event(taskId, record)))
        return events.filter((each) => each.type === 'usage')
      }),
    ending: (taskId) =>
      storing(`The events of ${taskId} can't be read`, async () => asEnding(taskId, await newest(taskId))),
    page: (taskId, from, limit) =>
      storing(`The events of ${taskId} can't be read`, () =>
        rows(taskId).where('seq', '>=', from).orderBy('seq').limit(limit).execute(),
      ),
    event: (taskId, record) => storing(`Event ${record.seq} of ${taskId} can't be read`, () => event(taskId, record)),
    json: (taskId, record) => storing(`Event ${record.seq} of ${taskId} can't be read`, () => json(taskId, record)),
    checkpoint: (taskId) =>
      storing(`The checkpoint of ${taskId} can't be read`, async () => {
        const row = await database
          .selectFrom('checkpoints')
          .select('checkpointJson')
          .where('taskId', '=', taskId)
          .executeTakeFirst()
        return row && (JSON.parse(row.checkpointJson) as Checkpoint)
      }),
    insert: (records, checkpoints = new Map()) =>
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
          for (const [taskId, checkpointJson] of checkpoints) await setCheckpoint(trx, taskId, checkpointJson)
        }),
      ),
    remove: (taskId) =>
      storing(`The events of ${taskId} can't be removed`, async () => {
        const last = await rows(taskId).orderBy('seq', 'desc').limit(1).executeTakeFirst()
        for (let to = ROWS_PER_DELETE; to < (last?.seq ?? 0) + ROWS_PER_DELETE; to += ROWS_PER_DELETE) {
          await database.deleteFrom('events').where('taskId', '=', taskId).where('seq', '<=', to).execute()
        }
        await setCheckpoint(database, taskId, null)
        await payloads.removeAll(taskId)
      }),
  }
}

async function setCheckpoint(database: Database, taskId: string, checkpointJson: string | null): Promise<void> {
  if (checkpointJson === null) {
    await database.deleteFrom('checkpoints').where('taskId', '=', taskId).execute()
    return
  }
  await database
    .insertInto('checkpoints')
    .values({ taskId, checkpointJson })
    .onConflict((conflict) => conflict.column('taskId').doUpdateSet({ checkpointJson }))
    .execute()
}
