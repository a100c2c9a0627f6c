import { existsSync } from 'node:fs'
import { chmod, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { passingName } from './owner.ts'

/**
 * The file at `path`, made by `make` if it isn't there: under a temporary name first, then renamed, so that nobody sees a part
 * of it. Two makers at once do the work twice and agree.
 */
export async function fileOnce(path: string, make: (temporary: string) => Promise<void>): Promise<string> {
  if (existsSync(path)) return path
  await mkdir(dirname(path), { recursive: true })
  const temporary = await passingName(path)
  try {
    await make(temporary)
    await publish(temporary, path, 0o644)
  } finally {
    await rm(temporary, { force: true })
  }
  return path
}

/** Gives a finished file or folder its place in one step, its content on disk before its name. */
export async function publish(finished: string, place: string, mode: number): Promise<void> {
  await chmod(finished, mode)
  await flush(finished)
  await rename(finished, place)
  await flush(dirname(place))
}

async function flush(path: string): Promise<void> {
  await using file = await open(path, 'r')
  await file.sync()
  if (!(await file.stat()).isDirectory()) return
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isFile()) {
      await using inner = await open(join(path, entry.name), 'r')
      await inner.sync()
    }
  }
}
