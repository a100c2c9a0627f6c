import { existsSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'

const fileOf = (home: string) => join(home, 'orchestrator.lock')

/** SQLite's result code for a file that somebody else has locked. */
const SQLITE_BUSY = 5

/** A client's look at the lock takes microseconds, and is waited for. */
const LOOK_MS = 500

/**
 * Makes this process the one orchestrator of a data folder, until it releases the lock or dies. The lock is SQLite's own
 * file lock: the kernel drops it with the process, however that ends, so there is no stale lock to judge.
 * Throws `conflict` while another orchestrator holds it.
 */
export function lockDataFolder(home: string): Disposable {
  const database = new DatabaseSync(fileOf(home), { timeout: LOOK_MS })
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE')
    database.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    throw new VivariumError(
      'conflict',
      `Another orchestrator already runs on the data folder ${home}. Use it, stop it, or give this one a folder of its own with VIVARIUM_HOME.`,
      { cause: error },
    )
  }
  return { [Symbol.dispose]: () => database.close() }
}

/** Whether an orchestrator runs on a data folder. False also where the folder is not ours to read. */
export function isLocked(home: string): boolean {
  if (!existsSync(fileOf(home))) return false
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(fileOf(home), { readOnly: true })
    database.exec('SELECT 1 FROM sqlite_schema')
    return false
  } catch (error) {
    return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY
  } finally {
    database?.close()
  }
}
