import { access, chmod, chown, lstat, mkdir, readdir, rm, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'

/** In a disk folder that is a saved machine; see `SavedMachine`. */
export const STATE_FILE = 'state'

/** The two folders of one machine. */
export interface MachineFolders {
  /** Sockets; all that the VMM sees of the host's files. */
  runDir: string
  /** Disks and the VMM's log; closed to everybody else. */
  diskDir: string
}

/**
 * Makes a folder of ours, and those above it that are missing, such that users of other uids can pass through but not list
 * it. The mode is set afterwards: the one given to mkdir is cut by the umask of whoever starts us. Rejects with
 * `setup_required` where somebody else was there first, as anybody may be below /tmp.
 */
export async function makeReachable(folder: string): Promise<void> {
  const first = (await mkdir(folder, { recursive: true })) ?? folder
  for (const path of [dirname(folder), folder]) await requireOwn(path)
  for (let made = folder; made.length >= first.length; made = dirname(made)) await chmod(made, 0o711)
}

/** Refuses a link, and a folder in which somebody other than us or root could put one thing for another. */
async function requireOwn(path: string): Promise<void> {
  const entry = await lstat(path)
  if (entry.isDirectory() && [0, process.getuid?.()].includes(entry.uid)) return
  const message = `${path} belongs to somebody else or is a link, so machines can't be kept there. Remove it, or set XDG_RUNTIME_DIR to a folder of your own.`
  throw new VivariumError('setup_required', message)
}

/** Makes a machine's folders; the run folder belongs to the VMM's uid. Fails if either exists: ids are never used twice. */
export async function makeFolders({ runDir, diskDir }: MachineFolders, uid: number | undefined): Promise<void> {
  await mkdir(dirname(diskDir), { recursive: true, mode: 0o700 })
  await mkdir(diskDir, { mode: 0o700 })
  await makeRunFolder(runDir, uid)
}

/** Makes a run folder alone: it lies in memory, and is gone after a restart of the host. */
export async function makeRunFolder(runDir: string, uid: number | undefined): Promise<void> {
  await makeReachable(dirname(runDir))
  await mkdir(runDir, { mode: 0o700 })
  if (uid !== undefined) await chown(runDir, uid, uid)
}

/** Removes folders of a machine with all that is in them. Its processes must be gone: they could swap a folder for a link. */
export async function removeFolders(folders: readonly string[]): Promise<void> {
  for (const folder of folders) await rm(folder, { recursive: true, force: true })
}

/** Removes a folder that nothing is left in; one that is in use stays. */
export async function removeIfEmpty(folder: string): Promise<void> {
  await rmdir(folder).catch(() => {}) // not empty, or never made
}

/** Whether a disk folder is a saved machine. */
export async function isSaved(diskDir: string): Promise<boolean> {
  return access(join(diskDir, STATE_FILE)).then(
    () => true,
    () => false,
  )
}

/** What machines and engine probes name their folders and logs. */
const OURS = /^(?<id>vm_[0-9a-z]{12}|probe-[0-9a-z-]+)(?:\.log)?$/

/** What lies in `folder` and belongs to a machine or a probe. */
export async function machineEntries(folder: string): Promise<{ id: string; path: string }[]> {
  const names = await readdir(folder).catch(() => []) // not made yet
  return names.flatMap((name) => {
    const id = OURS.exec(name)?.groups?.['id']
    return id === undefined ? [] : [{ id, path: join(folder, name) }]
  })
}
