import type { DatabaseSync, SQLInputValue } from 'node:sqlite'
import { SqliteAdapter, SqliteDialect, type SqliteDatabase, type SqliteStatement } from 'kysely'

/** Kysely's dialect for SQLite on `node:sqlite`. */
export class NodeSqliteDialect extends SqliteDialect {
  constructor(database: DatabaseSync) {
    super({ database: forKysely(database) })
  }

  override createAdapter(): SqliteAdapter {
    return new AtomicMigrationsAdapter()
  }
}

/** SQLite can change its schema in a transaction, which Kysely does not make use of by itself: a killed migration leaves nothing. */
class AtomicMigrationsAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true
  }
}

/** `node:sqlite` behind the interface that Kysely's SQLite dialect expects. */
function forKysely(database: DatabaseSync): SqliteDatabase {
  const statements = new Map<string, SqliteStatement>()
  return {
    close: () => database.close(),
    prepare(sql) {
      let statement = statements.get(sql)
      if (statement === undefined) {
        statement = sql === 'rollback' ? rollback(database) : prepare(database, sql)
        // Only texts that recur are worth keeping: multi-row inserts have as many texts as sizes.
        if (statements.size < 500) statements.set(sql, statement)
      }
      return statement
    },
  }
}

function prepare(database: DatabaseSync, sql: string): SqliteStatement {
  // A transaction that reads first and writes later fails at once if another process wrote in between; one that takes the
  // write lock at its start waits for the other, up to `busy_timeout`.
  const statement = database.prepare(sql === 'begin' ? 'begin immediate' : sql)
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...(parameters as SQLInputValue[])),
    run: (parameters) => statement.run(...(parameters as SQLInputValue[])),
    iterate: (parameters) => statement.iterate(...(parameters as SQLInputValue[])),
  }
}

/** After a full disk SQLite has already rolled back; doing it again would fail and hide the reason. */
function rollback(database: DatabaseSync): SqliteStatement {
  const statement = prepare(database, 'rollback')
  return {
    ...statement,
    run: (parameters) => (database.isTransaction ? statement.run(parameters) : { changes: 0, lastInsertRowid: 0 }),
  }
}
