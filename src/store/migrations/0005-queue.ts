import type { Kysely } from 'kysely'

/** How often each task was started. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('tasks')
    .addColumn('attempts', 'integer', (c) => c.notNull().defaultTo(0))
    .execute()
}
