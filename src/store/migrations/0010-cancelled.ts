import type { Kysely } from 'kysely'

/** A cancel that was asked for holds, also where the server is killed before the task has ended. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('tasks')
    .addColumn('is_cancelled', 'integer', (c) => c.notNull().defaultTo(0))
    .execute()
}
