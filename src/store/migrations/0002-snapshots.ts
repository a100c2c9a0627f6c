import type { Kysely } from 'kysely'

/** Templates, suspended and kept machines, tasks that go on from others. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema.alterTable('tasks').addColumn('continues', 'text').execute()
  await schema.alterTable('tasks').addColumn('session_id', 'text').execute()
  await schema
    .alterTable('tasks')
    .addColumn('has_state', 'integer', (c) => c.notNull().defaultTo(0))
    .execute()
  await schema.createIndex('tasks_continues').on('tasks').column('continues').execute()

  await schema
    .alterTable('machines')
    .addColumn('state', 'text', (c) => c.notNull().defaultTo('running'))
    .execute()
  await schema
    .alterTable('machines')
    .addColumn('started_from', 'text', (c) => c.notNull().defaultTo('boot'))
    .execute()
  await schema.alterTable('machines').addColumn('template', 'text').execute()
  await schema
    .alterTable('machines')
    .addColumn('depends_on_json', 'text', (c) => c.notNull().defaultTo('{}'))
    .execute()
  await schema.alterTable('machines').addColumn('keep_until', 'text').execute()
}
