import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { MANIFEST } from './manifest.ts'
import { snapshotDatabase } from './snapshot.ts'
import type { Logger } from '../telemetry/types.ts'

/** Folder in the data folder for backups that nobody gave another place. */
export const BACKUPS = 'backups'

const LOOK_MS = 60 * 60_000

export interface DailyOptions {
  home: string
  /** So many days' are kept; 0 makes none. */
  keep: number
  log: Logger
}

/** Copies the database once a day: what a damaged one can be replaced with. The first is made at once. */
export function keepDailyBackups(options: DailyOptions): AsyncDisposable {
  if (options.keep === 0) return { [Symbol.asyncDispose]: async () => {} }
  let making = make(options)
  const timer = setInterval(() => {
    making = making.then(() => make(options))
  }, LOOK_MS).unref()
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await making
    },
  }
}

/** Makes today's unless it is there, and removes the oldest beyond `keep`. Never rejects. */
async function make({ home, keep, log }: DailyOptions): Promise<void> {
  const folder = join(home, BACKUPS)
  const path = join(folder, `daily-${new Date().toISOString().slice(0, 10)}.db`)
  if (existsSync(path)) return
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await rm(`${path}.partial`, { force: true })
    await snapshotDatabase(join(home, 'vivarium.db'), `${path}.partial`)
    await rename(`${path}.partial`, path)
    const all = (await readdir(folder)).filter((name) => /^daily-.*\.db$/.test(name)).toSorted()
    for (const name of all.slice(0, -keep)) await rm(join(folder, name))
  } catch (err) {
    log.warn({ err }, 'the daily copy of the database could not be made; it is tried again in an hour')
  }
}

/** The newest backup that lies in a data folder, whole or of its database alone; undefined where there is none. */
export async function newestBackup(home: string): Promise<{ path: string; at: Date } | undefined> {
  const folder = join(home, BACKUPS)
  const names = await readdir(folder).catch(() => [])
  const found: { path: string; at: Date }[] = []
  for (const name of names) {
    const path = join(folder, name)
    const isBackup = name.endsWith('.db') || existsSync(join(path, MANIFEST))
    if (isBackup) found.push({ path, at: (await stat(path)).mtime })
  }
  return found.toSorted((a, b) => b.at.getTime() - a.at.getTime())[0]
}
