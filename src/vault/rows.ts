import type { Selectable } from 'kysely'
import { VivariumError } from '../contracts/errors.ts'
import type { Database } from '../store/database.ts'
import type { SecretsTable } from '../store/tables.ts'
import type { AuditLine } from './audit-line.ts'
import type { MasterKey } from './master-key.ts'
import { openSecret, sealCheck, sealSecret } from './seal.ts'

export type SecretRow = Selectable<SecretsTable>

const CHECK_ID = 1

export function readRows(database: Database): Promise<SecretRow[]> {
  return database.selectFrom('secrets').selectAll().orderBy('name').orderBy('userId').execute()
}

export async function readCheck(database: Database): Promise<{ sealedCheck: string; source: string } | undefined> {
  return database
    .selectFrom('masterKey')
    .select(['sealedCheck', 'source'])
    .where('id', '=', CHECK_ID)
    .executeTakeFirst()
}

export async function writeCheck(database: Database, key: MasterKey): Promise<void> {
  const check = { sealedCheck: sealCheck(key.bytes), source: key.source }
  await database
    .insertInto('masterKey')
    .values({ id: CHECK_ID, ...check })
    .onConflict((conflict) => conflict.column('id').doUpdateSet(check))
    .execute()
}

/**
 * Seals every secret under a new data key and `to`, and the check and a line of the audit with them: all in one transaction, or
 * nothing. Returns the rows as they are now. Rejects with `storage_failed` when one of them doesn't open.
 */
export function reseal(database: Database, from: Buffer, to: MasterKey, line: AuditLine): Promise<SecretRow[]> {
  return database.transaction().execute(async (trx) => {
    for (const row of await readRows(trx)) {
      const value = openSecret(from, row, row)
      if (value === undefined) throw damaged(row.name)
      await trx
        .updateTable('secrets')
        .set(sealSecret(to.bytes, row, value))
        .where('id', '=', row.id)
        .execute()
    }
    await writeCheck(trx, to)
    await trx.insertInto('audit').values(line).execute()
    return readRows(trx)
  })
}

/** The error for a row that the right master key doesn't open. */
export function damaged(name: string): VivariumError {
  return new VivariumError(
    'storage_failed',
    `The stored secret "${name}" can't be decrypted: its row was damaged or changed from outside. ` +
      `Give it its value again with "vivarium secret set ${name}", or remove it.`,
  )
}
