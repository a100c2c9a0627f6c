import { closeSync, openSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { CamelCasePlugin, Kysely } from 'kysely'
import { Migrator, type Migration } from 'kysely/migration'
import { VivariumError } from '../contracts/errors.ts'
import { checkStructure, isSuspect } from './check.ts'
import { storing } from './failures.ts'
import { MIGRATIONS } from './migrations/index.ts'
import { NodeSqliteDialect } from './node-sqlite.ts'
import type { Tables } from './tables.ts'

export type Database = Kysely<Tables>

/**
 * Opens the database file (or `:memory:`), brings its schema up to date and returns it. Several processes may open one file
 * at once, also a new one. Rejects with `storage_failed` when it is corrupt, newer than this program, or can't be written.
 */
export function openDatabase(path: string, migrations: Record<string, Migration> = MIGRATIONS): Promise<Database> {
  return storing(`The database ${path} can't be opened`, async () => {
    await using failed = new AsyncDisposableStack()
    const suspect = path !== ':memory:' && isSuspect(path)
    const sqlite = openFile(path)
    const database: Database = new Kysely({
      dialect: new NodeSqliteDialect(sqlite),
      plugins: [new CamelCasePlugin()],
    })
    // Before its first query Kysely has not taken the connection, and would not close it.
    failed.defer(async () => (sqlite.isOpen ? sqlite.close() : undefined))
    // First, so that all that follows waits for another process instead of failing.
    sqlite.exec('PRAGMA busy_timeout = 5000')
    if (suspect) checkStructure(sqlite)
    sqlite.exec('PRAGMA journal_mode = WAL')
    sqlite.exec('PRAGMA synchronous = FULL')
    sqlite.exec('PRAGMA foreign_keys = ON')
    refuseNewer(sqlite, path, migrations)
    const migrator = new Migrator({ db: database, provider: { getMigrations: async () => migrations } })
    const { error } = await migrator.migrateToLatest()
    if (error !== undefined) throw error
    failed.move()
    return database
  })
}

/** Opens the file, new ones readable by their owner only: prompts and results are private. Its WAL inherits that. */
function openFile(path: string): DatabaseSync {
  if (path !== ':memory:') closeSync(openSync(path, 'a', 0o600))
  return new DatabaseSync(path)
}

/** Throws when the file has had migrations that this program does not know. */
function refuseNewer(sqlite: DatabaseSync, path: string, migrations: Record<string, Migration>): void {
  const table = sqlite.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'kysely_migration'").get()
  if (table === undefined) return
  const applied = sqlite.prepare('SELECT name FROM kysely_migration ORDER BY name').all()
  const unknown = applied.find(({ name }) => !Object.hasOwn(migrations, String(name)))
  if (unknown === undefined) return
  throw new VivariumError(
    'storage_failed',
    `The database ${path} was written by a newer Vivarium (it has "${String(unknown['name'])}", which this one does not know). ` +
      'Start that version, or choose another data folder with VIVARIUM_HOME.',
  )
}
