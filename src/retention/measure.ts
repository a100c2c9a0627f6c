import { sql } from 'kysely'
import type { Blobs } from '../blobs/types.ts'
import { FINAL_STATUSES } from '../contracts/task.ts'
import type { Database } from '../store/database.ts'
import { blobKeys } from '../tasks/blob-keys.ts'

const TASKS_AT_ONCE = 100

/** Writes down what each newly finished task takes: it does not change any more, so it is measured once. */
export async function measure(database: Database, blobs: Pick<Blobs, 'usage'>): Promise<void> {
  for (;;) {
    const tasks = await database
      .selectFrom('tasks')
      .select('id')
      .where('status', 'in', [...FINAL_STATUSES])
      .where('filesBytes', 'is', null)
      .limit(TASKS_AT_ONCE)
      .execute()
    for (const { id } of tasks) {
      const stateBytes = await blobs.usage(blobKeys.state(id))
      const filesBytes = (await blobs.usage(blobKeys.results(id))) - stateBytes
      const eventsBytes = await eventBytes(database, id)
      await database.updateTable('tasks').set({ filesBytes, stateBytes, eventsBytes }).where('id', '=', id).execute()
    }
    if (tasks.length < TASKS_AT_ONCE) return
  }
}

async function eventBytes(database: Database, taskId: string): Promise<number> {
  const { bytes } = await database
    .selectFrom('events')
    .select(sql<number>`coalesce(sum(length(body_json) + coalesce(payload_bytes, 0) + 64), 0)`.as('bytes'))
    .where('taskId', '=', taskId)
    .executeTakeFirstOrThrow()
  return bytes
}
