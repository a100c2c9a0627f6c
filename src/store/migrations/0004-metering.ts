import { sql, type Kysely } from 'kysely'

/** What budgets are charged, and which conversation and subagent a request belongs to. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema
    .alterTable('usage_records')
    .addColumn('charge_usd', 'double precision', (c) => c.notNull().defaultTo(0))
    .execute()
  await sql`update usage_records set charge_usd = coalesce(cost_usd, 0)`.execute(db)
  await schema.alterTable('usage_records').addColumn('session_id', 'text').execute()
  await schema.alterTable('usage_records').addColumn('agent_id', 'text').execute()
  await schema.createIndex('usage_by_task').on('usage_records').column('task_id').execute()
  await schema.createIndex('usage_by_time').on('usage_records').column('at').execute()
}
