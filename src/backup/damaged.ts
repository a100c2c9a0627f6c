import { VivariumError } from '../contracts/errors.ts'
import { newestBackup } from './daily.ts'

/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const DAMAGED = new Set([11, 26])

/** What `open` gives; where the database turns out to be damaged, the error names the newest backup and how to take it. */
export async function openOrNameBackup<Opened>(home: string, open: () => Promise<Opened>): Promise<Opened> {
  try {
    return await open()
  } catch (error) {
    if (!isDamaged(error)) throw error
    const { message } = error
    const backup = await newestBackup(home)
    const advice =
      backup === undefined
        ? 'There is no backup in the data folder: take one from elsewhere ("vivarium restore PATH"), or begin with another data folder (VIVARIUM_HOME).'
        : `The newest backup is of ${backup.at.toISOString().slice(0, 16)}Z: "vivarium restore ${backup.path}" takes it, and keeps what is there now aside.`
    throw new VivariumError('storage_failed', `${message}. ${advice}`, { cause: error })
  }
}

function isDamaged(error: unknown): error is Error {
  if (!(error instanceof Error)) return false
  const code = 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & 0xff : 0
  return DAMAGED.has(code) || isDamaged(error.cause)
}
