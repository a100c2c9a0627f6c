import type { Kysely } from 'kysely'

/** What a run is taken up by after a restart: how far its output is in the log, what it is in the middle of, what its machine may reach. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema
    .createTable('checkpoints')
    .addColumn('task_id', 'text', (c) => c.primaryKey())
    .addColumn('checkpoint_json', 'text', (c) => c.notNull())
    .execute()
  await schema
    .createTable('runs')
    .addColumn('task_id', 'text', (c) => c.primaryKey())
    .addColumn('machine_id', 'text', (c) => c.notNull())
    .addColumn('exec_id', 'text', (c) => c.notNull())
    .addColumn('start_json', 'text', (c) => c.notNull())
    .addColumn('keep_until', 'text')
    .addColumn('ran_ms', 'double precision', (c) => c.notNull())
    .addColumn('clock_at', 'text')
    .addColumn('wake_at', 'text')
    .addColumn('ending_json', 'text')
    .execute()
  await schema.alterTable('machines').addColumn('network_json', 'text').execute()
}
