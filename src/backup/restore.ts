import { existsSync } from 'node:fs'
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'
import { openDatabase } from '../store/database.ts'
import { DATA, readManifest, sha256Of, type FileEntry } from './manifest.ts'
import { copy, linkOrCopy } from './place-file.ts'
import { checkSnapshot } from './snapshot.ts'
import { completeSwap, STAGING, swapIn } from './swap.ts'

export interface RestoreOptions {
  /** The data folder, locked by the caller: no orchestrator runs on it. */
  home: string
  /** A backup's folder, or a database file alone. */
  from: string
  signal: AbortSignal
}

const DATABASE = 'vivarium.db'

/** What makes up the state of an orchestrator, and is replaced as one. Its settings and keys stay as they are. */
const STATE = [DATABASE, `${DATABASE}-wal`, `${DATABASE}-shm`, 'blobs', 'payloads', 'machines']

/** Files that are taken from a backup where the data folder has none. */
const KEPT = ['vivarium.json', 'master.key']

/**
 * Puts a backup in the place of what a data folder holds, whole or not at all, and resolves with the folder that keeps what was
 * there. Rejects with `invalid_request` for a damaged backup and `storage_failed` for one of a newer program; nothing is changed then.
 */
export async function restoreBackup({ home, from, signal }: RestoreOptions): Promise<string> {
  completeSwap(home)
  const staging = join(home, STAGING)
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => rm(staging, { recursive: true, force: true }))
  await mkdir(staging, { mode: 0o700 })
  const isFolder = (await stat(from).catch(() => undefined))?.isDirectory()
  if (isFolder === undefined) throw new VivariumError('not_found', `There is no backup ${from}.`)
  if (isFolder) await takeFolder(from, staging, signal)
  else await copy(from, join(staging, DATABASE))

  await checkSnapshot(join(staging, DATABASE))
  // Refuses what a newer program has written, and brings up to date what an older one has.
  await (await openDatabase(join(staging, DATABASE))).destroy()

  const entries = isFolder ? STATE : STATE.filter((name) => name.startsWith(DATABASE))
  const more = KEPT.filter((name) => !existsSync(join(home, name)) && existsSync(join(staging, name)))
  const aside = `before-restore-${new Date().toISOString().replaceAll(/[:.]/g, '-')}`
  swapIn(home, aside, [...entries, ...more])
  return join(home, aside)
}

/** Brings every file of a backup into the staging folder and compares it with what the manifest says. */
async function takeFolder(from: string, staging: string, signal: AbortSignal): Promise<void> {
  const { files } = await readManifest(from)
  for (const file of files) {
    signal.throwIfAborted()
    const [source, target] = [join(from, DATA, file.path), join(staging, file.path)]
    // What changes in place must not change in the backup.
    const place = file.path.startsWith('blobs/') || file.path.startsWith('payloads/') ? linkOrCopy : copy
    if (!(await place(source, target)) || !(await isWhole(target, file)))
      throw new VivariumError('invalid_request', `The backup ${from} is damaged: ${file.path} is not as it was made.`)
  }
}

async function isWhole(path: string, { bytes, sha256 }: FileEntry): Promise<boolean> {
  return (await stat(path)).size === bytes && (await sha256Of(path)) === sha256
}
