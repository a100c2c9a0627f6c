import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { VivariumError, type ErrorCode } from '../contracts/errors.ts'

/** SQLite's "database is locked". */
const SQLITE_BUSY = 5

export interface LockOptions {
  /** The code of the error when another process keeps the lock too long. */
  code: ErrorCode
  /** Milliseconds to wait for another process at most. */
  timeoutMs: number
  /** Called before each further wait. */
  onWait: () => void
  signal: AbortSignal | undefined
}

/**
 * Takes the lock file `path` for this process. It is SQLite's own file lock, which the kernel drops with the process,
 * however that ends: there is no stale lock to judge. Rejects with `code` after `timeoutMs`.
 */
export async function lockFile(path: string, { code, timeoutMs, onWait, signal }: LockOptions): Promise<Disposable> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    signal?.throwIfAborted()
    const lock = tryLock(path)
    if (lock !== undefined) return lock
    if (performance.now() > deadline) {
      const minutes = Math.round(timeoutMs / 60_000)
      throw new VivariumError(code, `Another process has held ${path} for ${minutes} minutes: end it and try again.`)
    }
    onWait()
    await sleep(500, undefined, { signal })
  }
}

/** The same without waiting; undefined while another process has it. */
export function tryLock(path: string): Disposable | undefined {
  const database = new DatabaseSync(path)
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE')
    database.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) return undefined
    throw error
  }
  return { [Symbol.dispose]: () => database.close() }
}
