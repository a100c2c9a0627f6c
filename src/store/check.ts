import { statSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'

/** SQLITE_CORRUPT */
const CORRUPT = 11

/** A check reads all of the file, at about a gigabyte a second where it is in memory. */
const MAX_BYTES = 1024 ** 3

/** Throws, as SQLite itself would on meeting it, when something is wrong with the structure of a database. */
export function checkStructure(database: DatabaseSync): void {
  const found = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
  if (found !== 'ok') throw Object.assign(new Error(`the database is damaged: ${String(found)}`), { errcode: CORRUPT })
}

/**
 * Whether a database file is worth a check before it is used: its last user did not close it (a write-ahead log is left), so that the host
 * may have failed as well, and it is not so large that the check would keep its machines waiting. Damage elsewhere is met on use.
 */
export function isSuspect(path: string): boolean {
  const wal = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0
  return wal > 0 && (statSync(path, { throwIfNoEntry: false })?.size ?? 0) <= MAX_BYTES
}
