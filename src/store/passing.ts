/** Primary result codes of SQLite (https://sqlite.org/rescode.html) for what has to do with the disk, not with what is written. */
const SQLITE_CODES = new Set([
  5, // SQLITE_BUSY: somebody else has held the write lock for longer than `busy_timeout`
  8, // SQLITE_READONLY
  10, // SQLITE_IOERR
  13, // SQLITE_FULL
  14, // SQLITE_CANTOPEN
])

const SYSTEM_CODES = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EMFILE', 'ENFILE', 'ESTALE'])

/** Whether a write has failed for a reason that may pass by itself or be mended: then the same write is worth another try. */
export function mayPass(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  // The upper bits of an extended code say more than is asked here.
  if ('errcode' in error && typeof error.errcode === 'number' && SQLITE_CODES.has(error.errcode & 0xff)) return true
  if ('code' in error && SYSTEM_CODES.has(String(error.code))) return true
  return mayPass(error.cause)
}
