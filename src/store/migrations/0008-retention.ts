import type { Kysely } from 'kysely'

/** What finished tasks take, what of them was removed, and removals under way. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema
    .alterTable('tasks')
    .addColumn('removed_json', 'text', (c) => c.notNull().defaultTo('{}'))
    .execute()
  for (const column of ['files_bytes', 'events_bytes', 'state_bytes'])
    await schema.alterTable('tasks').addColumn(column, 'bigint').execute()
  await schema
    .createTable('removals')
    .addColumn('task_id', 'text', (c) => c.notNull())
    .addColumn('part', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('removals_pk', ['task_id', 'part'])
    .execute()
}
