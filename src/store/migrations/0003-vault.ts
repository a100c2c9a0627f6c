import { sql, type Kysely } from 'kysely'

/** Secrets, the check of their master key, and the audit of their use. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema
    .createTable('secrets')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('user_id', 'text', (c) => c.references('users.id').onDelete('cascade'))
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('version', 'integer', (c) => c.notNull())
    .addColumn('data_key', 'text', (c) => c.notNull())
    .addColumn('value', 'text', (c) => c.notNull())
    .addColumn('created_at', 'text', (c) => c.notNull())
    .addColumn('updated_at', 'text', (c) => c.notNull())
    .addColumn('last_used_at', 'text')
    .execute()
  // Nulls are all different to a unique index.
  await sql`CREATE UNIQUE INDEX secrets_by_owner ON secrets (coalesce(user_id, ''), name)`.execute(db)

  await schema
    .createTable('master_key')
    .addColumn('id', 'integer', (c) => c.primaryKey())
    .addColumn('sealed_check', 'text', (c) => c.notNull())
    .addColumn('source', 'text', (c) => c.notNull())
    .execute()

  await schema
    .createTable('audit')
    .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
    .addColumn('at', 'text', (c) => c.notNull())
    .addColumn('action', 'text', (c) => c.notNull())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('owner_id', 'text')
    .addColumn('user_id', 'text')
    .addColumn('task_id', 'text')
    .addColumn('machine_id', 'text')
    .addColumn('purpose', 'text', (c) => c.notNull())
    .addColumn('count', 'integer', (c) => c.notNull())
    .execute()
  await schema.createIndex('audit_by_name').on('audit').columns(['name', 'id']).execute()
}
