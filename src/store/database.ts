import { DatabaseSync } from 'node:sqlite'
import { CamelCasePlugin, Kysely, SqliteDialect } from 'kysely'
import { Migrator } from 'kysely/migration'
import { VivariumError } from '../contracts/errors.ts'
import { MIGRATIONS } from './migrations/index.ts'
import { forKysely } from './node-sqlite.ts'
import type { Tables } from './tables.ts'

export type Database = Kysely<Tables>

/**
 * Opens the database file (or `:memory:`), brings its schema up to date and returns it.
 * Rejects with `storage_failed` when it is corrupt, newer than this program, or can't be written.
 */
export async function openDatabase(path: string): Promise<Database> {
  try {
    const sqlite = new DatabaseSync(path)
    sqlite.exec('PRAGMA journal_mode = WAL')
    sqlite.exec('PRAGMA synchronous = FULL')
    sqlite.exec('PRAGMA foreign_keys = ON')
    sqlite.exec('PRAGMA busy_timeout = 5000')
    const database: Database = new Kysely({
      dialect: new SqliteDialect({ database: forKysely(sqlite) }),
      plugins: [new CamelCasePlugin()],
    })
    const migrator = new Migrator({ db: database, provider: { getMigrations: async () => MIGRATIONS } })
    const { error } = await migrator.migrateToLatest()
    if (error !== undefined) throw error
    return database
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new VivariumError('storage_failed', `The database ${path} can't be opened: ${why}`, { cause: error })
  }
}
