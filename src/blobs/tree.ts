import { lstat, mkdir, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'
import { isConfinedPath } from '../contracts/paths.ts'

/** Throws `invalid_request` for a key that could lead out of its folder. */
export function checkKey(key: string): void {
  if (!isConfinedPath(key))
    throw new VivariumError('invalid_request', `"${key}" is no key for a file.`, { field: 'key' })
}

/** Folders above a key, outermost first: for `a/b/c` these are `a` and `a/b`. */
function foldersAbove(key: string): string[] {
  const segments = key.split('/').slice(0, -1)
  return segments.map((_, index) => segments.slice(0, index + 1).join('/'))
}

/**
 * Whether all folders above a key are there and are folders. A symbolic link is not one: nothing of ours makes links here,
 * so a link is someone's attempt to lead us elsewhere. False where one is missing; throws `conflict` for anything else.
 */
export async function hasFolders(root: string, key: string): Promise<boolean> {
  for (const folder of foldersAbove(key)) {
    if (!(await isFolder(root, folder))) return false
  }
  return true
}

/** Makes the folders above a key, durably. */
export async function makeFolders(root: string, key: string): Promise<void> {
  for (const folder of foldersAbove(key)) {
    if (await isFolder(root, folder)) continue
    const path = join(root, folder)
    // `recursive` only so that a second put making the same folder at once is no error.
    await mkdir(path, { recursive: true, mode: 0o700 })
    await syncFolder(dirname(path))
  }
}

async function isFolder(root: string, folder: string): Promise<boolean> {
  const entry = await orUndefined(lstat(join(root, folder)))
  if (entry === undefined || entry.isDirectory()) return entry !== undefined
  throw new VivariumError('conflict', `"${folder}" is not a folder, so nothing can lie below it.`, { field: 'key' })
}

/** A name in a folder is durable only once the folder is. */
export async function syncFolder(path: string): Promise<void> {
  await using handle = await open(path, 'r')
  await handle.sync()
}

/** The result, or undefined where the file system says that there is no such file. */
export async function orUndefined<Result>(result: Promise<Result>): Promise<Result | undefined> {
  try {
    return await result
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** Whether an error is the operating system's with one of these codes. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}
