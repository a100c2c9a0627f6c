import { createHash } from 'node:crypto'
import type { Dirent } from 'node:fs'
import { existsSync } from 'node:fs'
import { lstat, mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { VivariumError } from '../contracts/errors.ts'
import { syncFolder } from '../blobs/tree.ts'
import { VERSION } from '../version.ts'
import { DATA, FILE_LIST, MANIFEST, sha256Of, type FileEntry, type Manifest } from './manifest.ts'
import { copy, linkOrCopy } from './place-file.ts'
import { settleSnapshot, snapshotDatabase } from './snapshot.ts'

export interface BackupOptions {
  /** The data folder; an orchestrator may run on it. */
  home: string
  /** The backup's folder, which must not exist. */
  destination: string
  /** Also the key of the secrets: whoever has the backup can read them then. */
  masterKey: boolean
  /** Also suspended machines: large, and of use on this host only. */
  machines: boolean
  signal: AbortSignal
}

const DATABASE = 'vivarium.db'

/**
 * Backs a data folder up, also under a running orchestrator. The database comes first: whatever its rows name was on the disk before
 * them and never changes. What was removed while files were copied is removed from the copy's rows in the end. The folder has
 * its name only once all of it is on the disk.
 */
export async function createBackup(options: BackupOptions): Promise<Manifest> {
  const { home, destination } = options
  if (existsSync(destination))
    throw new VivariumError('conflict', `${destination} exists already: name a folder that does not.`)
  const partial = `${destination}.partial`
  await rm(partial, { recursive: true, force: true })
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => rm(partial, { recursive: true, force: true }))
  await mkdir(join(partial, DATA), { recursive: true, mode: 0o700 })
  const data = join(partial, DATA)

  await snapshotDatabase(join(home, DATABASE), join(data, DATABASE))
  await placeTree(options, 'blobs/objects', data, linkOrCopy)
  await placeTree(options, 'payloads', data, linkOrCopy, ['staging'])
  for (const name of ['vivarium.json', ...(options.masterKey ? ['master.key'] : [])])
    await copy(join(home, name), join(data, name))
  const machines = options.machines ? await copyMachines(options, data) : []
  settleSnapshot(join(data, DATABASE), join(home, DATABASE), machines)

  const files = await list(data, options.signal)
  const lines = files.map((file) => `${JSON.stringify(file)}\n`).join('')
  await writeFile(join(partial, FILE_LIST), lines, { mode: 0o600, flush: true })
  const manifest: Manifest = {
    format: 1,
    version: VERSION,
    createdAt: new Date().toISOString(),
    files: files.length,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    fileList: createHash('sha256').update(lines).digest('hex'),
    masterKey: existsSync(join(data, 'master.key')),
    machines,
  }
  await writeFile(join(partial, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o600, flush: true })
  await syncFolder(partial)
  await rename(partial, destination)
  await syncFolder(dirname(destination))
  return manifest
}

type Place = (from: string, to: string) => Promise<boolean>

/** Puts every file below `folder` of the data folder into the backup. What goes meanwhile is left out. */
async function placeTree(
  { home, signal }: BackupOptions,
  folder: string,
  data: string,
  place: Place,
  leaveOut: string[] = [],
): Promise<void> {
  for await (const path of filesBelow(join(home, folder), leaveOut)) {
    signal.throwIfAborted()
    await place(path, join(data, relative(home, path)))
  }
}

/**
 * Copies the machines that are suspended before and after: a machine that goes on in between writes to its disk, and its
 * copy is of no use.
 */
async function copyMachines(options: BackupOptions, data: string): Promise<string[]> {
  const { home } = options
  const copied: string[] = []
  for (const id of suspendedMachines(home)) {
    const folder = join('machines', id)
    await placeTree(options, folder, data, copy)
    if (suspendedMachines(home).includes(id)) copied.push(id)
    else await rm(join(data, folder), { recursive: true, force: true })
  }
  return copied
}

function suspendedMachines(home: string): string[] {
  using database = new DatabaseSync(join(home, DATABASE), { readOnly: true })
  const rows = database.prepare("SELECT id FROM machines WHERE state = 'suspended' AND keep_until IS NOT NULL").all()
  return rows.map(({ id }) => String(id)).filter((id) => existsSync(join(home, 'machines', id, 'state')))
}

/** Every file of the backup with its checksum, each of them on the disk by then. */
async function list(data: string, signal: AbortSignal): Promise<FileEntry[]> {
  const files: FileEntry[] = []
  for await (const path of filesBelow(data)) {
    signal.throwIfAborted()
    await using file = await open(path, 'r')
    await file.datasync()
    const { size: bytes } = await file.stat()
    files.push({ path: relative(data, path), bytes, sha256: await sha256Of(path) })
  }
  return files
}

/** Regular files below a folder, which may be missing or lose some meanwhile; symbolic links are none of ours. */
async function* filesBelow(folder: string, leaveOut: string[] = []): AsyncGenerator<string> {
  let entries: Dirent[]
  try {
    entries = await readdir(folder, { withFileTypes: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  for (const entry of entries) {
    const path = join(folder, entry.name)
    if (leaveOut.includes(entry.name)) continue
    if (entry.isDirectory()) yield* filesBelow(path)
    else if (entry.isFile() && (await lstat(path).catch(() => undefined))?.isFile() === true) yield path
  }
}
