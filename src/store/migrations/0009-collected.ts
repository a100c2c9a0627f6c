import type { Kysely } from 'kysely'

/** Whether all that a run has left was brought back: from then on only its end is still to be told. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('runs')
    .addColumn('collected', 'integer', (c) => c.notNull().defaultTo(0))
    .execute()
}
