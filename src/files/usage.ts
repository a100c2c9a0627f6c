import type { Dirent } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'

/** Bytes on disk of all files below a folder; 0 where there is none. Holes of sparse files don't count, nor what goes meanwhile. */
export async function folderBytes(path: string): Promise<number> {
  let bytes = 0
  for (const entry of await entriesOf(path)) {
    const inner = join(path, entry.name)
    // `blocks` are of 512 bytes on every file system.
    if (entry.isDirectory()) bytes += await folderBytes(inner)
    else bytes += ((await lstat(inner).catch(() => undefined))?.blocks ?? 0) * 512
  }
  return bytes
}

async function entriesOf(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
