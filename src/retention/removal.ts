import type { Transaction, Updateable } from 'kysely'
import type { Blobs } from '../blobs/types.ts'
import type { RemovedParts, TaskPart } from '../contracts/removed.ts'
import { FINAL_STATUSES } from '../contracts/task.ts'
import type { EventLog } from '../events/types.ts'
import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import type { Tables, TasksTable } from '../store/tables.ts'
import { blobKeys } from '../tasks/blob-keys.ts'
import type { TaskRemoval } from './types.ts'

export interface RemovalOptions {
  database: Database
  events: Pick<EventLog, 'remove'>
  blobs: Pick<Blobs, 'remove' | 'removeAll'>
}

/** What a task's row says once a part is gone. */
const WITHOUT: Record<TaskPart, Updateable<TasksTable>> = {
  files: { filesBytes: 0, patchBytes: null },
  events: { eventsBytes: 0 },
  state: { stateBytes: 0, hasState: 0 },
}

/**
 * The row first, with a note of what is to follow, in one transaction; then the bytes; then the note goes. A crash in between leaves
 * bytes that nothing promises any more, and the note by which the next start finds them. The other way round a row would
 * promise what is gone.
 */
export function createRemoval({ database, events, blobs }: RemovalOptions): TaskRemoval {
  const removeBytes: Record<TaskPart | 'task', (taskId: string) => Promise<void>> = {
    async files(taskId) {
      await blobs.removeAll(blobKeys.files(taskId))
      await blobs.remove(blobKeys.patch(taskId))
      await blobs.remove(blobKeys.transcript(taskId))
    },
    events: (taskId) => events.remove(taskId),
    state: (taskId) => blobs.removeAll(blobKeys.state(taskId)),
    async task(taskId) {
      await events.remove(taskId)
      await blobs.removeAll(blobKeys.results(taskId))
      await blobs.removeAll(blobKeys.inputs(taskId))
    },
  }

  const end = async (taskId: string, part: TaskPart | 'task') => {
    await removeBytes[part](taskId)
    await database.deleteFrom('removals').where('taskId', '=', taskId).where('part', '=', part).execute()
  }

  return {
    take: (taskId, part, setting) =>
      storing(`The ${part} of ${taskId} can't be removed`, async () => {
        const taken = await database.transaction().execute(async (trx) => {
          const row = await finished(trx, taskId).select('removedJson').executeTakeFirst()
          if (row === undefined || (part === 'state' && (await isNeeded(trx, taskId)))) return false
          const removed: RemovedParts = { ...(JSON.parse(row.removedJson) as RemovedParts) }
          removed[part] = { at: new Date().toISOString(), setting }
          const change = { ...WITHOUT[part], removedJson: JSON.stringify(removed) }
          await trx.updateTable('tasks').set(change).where('id', '=', taskId).execute()
          if (part === 'files') await trx.deleteFrom('resultFiles').where('taskId', '=', taskId).execute()
          await note(trx, taskId, part)
          return true
        })
        if (taken) await end(taskId, part)
        return taken
      }),

    forget: (taskId, { force } = { force: false }) =>
      storing(`The task ${taskId} can't be removed`, async () => {
        const taken = await database.transaction().execute(async (trx) => {
          const row = await finished(trx, taskId).select('id').executeTakeFirst()
          if (row === undefined || (!force && (await isNeeded(trx, taskId)))) return false
          await note(trx, taskId, 'task')
          await trx.deleteFrom('resultFiles').where('taskId', '=', taskId).execute()
          await trx.deleteFrom('tasks').where('id', '=', taskId).execute()
          return true
        })
        if (taken) await end(taskId, 'task')
        return taken
      }),

    finish: () =>
      storing("Removals can't be ended", async () => {
        for (const { taskId, part } of await database.selectFrom('removals').selectAll().execute())
          await end(taskId, part)
      }),
  }
}

function finished(database: Transaction<Tables>, taskId: string) {
  return database
    .selectFrom('tasks')
    .where('id', '=', taskId)
    .where('status', 'in', [...FINAL_STATUSES])
}

/** Whether a task that is not final goes on from this one, or waits for it: its request names it then. */
async function isNeeded(database: Transaction<Tables>, taskId: string): Promise<boolean> {
  const follower = database
    .selectFrom('tasks')
    .select('id')
    .where('status', 'not in', [...FINAL_STATUSES])
    .where('requestJson', 'like', `%"${taskId}"%`)
  return (await follower.executeTakeFirst()) !== undefined
}

async function note(trx: Transaction<Tables>, taskId: string, part: TaskPart | 'task'): Promise<void> {
  await trx
    .insertInto('removals')
    .values({ taskId, part })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
}
