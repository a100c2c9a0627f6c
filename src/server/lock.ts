import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'

/**
 * Makes this process the one orchestrator of a data folder, until it releases the lock or dies. The lock is SQLite's own
 * file lock: the kernel drops it with the process, however that ends, so there is no stale lock to judge.
 * Throws `conflict` while another orchestrator holds it.
 */
export function lockDataFolder(home: string): Disposable {
  const database = new DatabaseSync(join(home, 'orchestrator.lock'))
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
