import type { Kysely } from 'kysely'

/** The journal of model requests, and which of them a usage record counts: each at most once. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema
    .createTable('model_requests')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('user_id', 'text', (c) => c.notNull())
    .addColumn('task_id', 'text')
    .addColumn('machine_id', 'text', (c) => c.notNull())
    .addColumn('session_id', 'text')
    .addColumn('agent_id', 'text')
    .addColumn('started_at', 'text', (c) => c.notNull())
    .addColumn('request_bytes', 'bigint', (c) => c.notNull())
    .addColumn('max_tokens', 'bigint')
    .addColumn('model', 'text', (c) => c.notNull())
    .addColumn('input_tokens', 'bigint', (c) => c.notNull())
    .addColumn('output_tokens', 'bigint', (c) => c.notNull())
    .addColumn('cache_read_tokens', 'bigint', (c) => c.notNull())
    .addColumn('cache_write_tokens', 'bigint', (c) => c.notNull())
    .addColumn('cost_usd', 'double precision')
    .addColumn('charge_usd', 'double precision', (c) => c.notNull())
    .addColumn('status', 'integer', (c) => c.notNull())
    .execute()
  await schema.alterTable('usage_records').addColumn('request_id', 'text').execute()
  // Records of older versions have none; nulls are all different to a unique index.
  await schema.createIndex('usage_by_request').on('usage_records').column('request_id').unique().execute()
}
