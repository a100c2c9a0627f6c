import { randomBytes } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { identify, isRunning } from '../machines/process-identity.ts'

/*
 * What is on the way to its place says in its name which process makes it, so that what a killed one left is told from what is being made,
 * by anybody who shares the folder.
 */

/** In another PID namespace, e.g. another container's, nothing can be asked about a process: what nobody has touched for so long is nobody's. */
const UNKNOWN_OWNER_MS = 48 * 3_600_000

/** PID namespace, pid, start time and a random part, in base 36. */
const TAG = /(?<namespace>[0-9a-z]+)-(?<pid>[0-9a-z]+)-(?<startTime>[0-9a-z]+)-[0-9a-f]{8}$/

/** How the passing folders of `vivarium run --workspace` begin, in the host's folder for such. */
export const WORKSPACE_PREFIX = 'vivarium-git-'

/** The end of a name that nobody else chooses, and that says that this process chose it. */
export async function ownTag(): Promise<string> {
  const self = await identify(process.pid)
  const parts = [await pidNamespace(), process.pid, self?.startTime ?? 0].map((part) => part.toString(36))
  return `${parts.join('-')}-${randomBytes(4).toString('hex')}`
}

/** A passing name for what will be at `path`: beside it, hidden. */
export async function passingName(path: string): Promise<string> {
  return join(dirname(path), `.${basename(path)}.${await ownTag()}`)
}

/** Paths in a folder whose names begin with `prefix` and whose makers are gone. */
export async function abandonedIn(folder: string, prefix = '.'): Promise<string[]> {
  const names = await readdir(folder).catch(() => []) // not made yet
  const paths = names.filter((name) => name.startsWith(prefix)).map((name) => join(folder, name))
  const abandoned = await Promise.all(paths.map(isAbandoned))
  return paths.filter((_, index) => abandoned[index])
}

/** Whether a path has a tag in its name, and the process of that tag is gone. */
export async function isAbandoned(path: string): Promise<boolean> {
  const tag = TAG.exec(basename(path))?.groups
  if (tag === undefined) return false
  const [namespace = 0, pid = 0, startTime = 0] = [tag['namespace'], tag['pid'], tag['startTime']].map(fromBase36)
  if (namespace === (await pidNamespace())) return !(await isRunning({ pid, startTime }))
  const touched = await stat(path).catch(() => undefined) // given its place meanwhile
  return touched !== undefined && Date.now() - touched.mtimeMs > UNKNOWN_OWNER_MS
}

/** The inode of this process's PID namespace (namespaces(7)). */
async function pidNamespace(): Promise<number> {
  return (await stat('/proc/self/ns/pid')).ino
}

function fromBase36(text = ''): number {
  return Number.parseInt(text, 36)
}
