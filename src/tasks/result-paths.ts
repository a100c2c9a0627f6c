import { isConfinedPath } from '../contracts/paths.ts'
import type { Change } from '../link/types.ts'

/** What a file system takes as one name. */
const MAX_NAME_BYTES = 255

/** Leaves room for the folders before it within a path's 4,096 bytes. */
const MAX_PATH_BYTES = 3500

/** Nobody's folders lie so deep; the host's would. */
const MAX_DEPTH = 128

/** The files to bring back, and how many were left out for what reason (in words, for people). */
export interface Selection {
  files: { path: string; size: number }[]
  leftOut: Map<string, number>
}

/** Chooses from what the guest says has changed; every path of the choice is confined and stands in it once. */
export function selectFiles(changes: Change[], limits: { exclude: string[]; maxFiles: number }): Selection {
  const isExcluded = matcher(limits.exclude)
  const leftOut = new Map<string, number>()
  const files = new Map<string, number>()
  const folders = new Folders(limits.maxFiles)
  for (const { path, kind, type, size } of changes) {
    if (kind === 'deleted' || isExcluded(path)) continue
    const reason =
      refusal(path, type) ??
      (files.size >= limits.maxFiles ? `beyond ${limits.maxFiles} files` : undefined) ??
      (folders.admit(path) ? undefined : `beyond ${limits.maxFiles} folders`)
    if (reason === undefined) files.set(path, size)
    else leftOut.set(reason, (leftOut.get(reason) ?? 0) + 1)
  }
  return { files: [...files].map(([path, size]) => ({ path, size })), leftOut }
}

function refusal(path: string, type: Change['type']): string | undefined {
  if (type !== 'file') return 'not a regular file'
  if (!isConfinedPath(path)) return 'a path that leaves the workspace'
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) return 'a path too long'
  const names = path.split('/')
  if (names.length > MAX_DEPTH) return 'folders too deep'
  return names.some((name) => Buffer.byteLength(name) > MAX_NAME_BYTES) ? 'a name too long' : undefined
}

/** The folders that the chosen files lie in, which the host has to make: bounded as the files are. */
class Folders {
  readonly #known = new Set<string>()
  #room: number

  constructor(room: number) {
    this.#room = room
  }

  /** Takes the folders above a path; false where they are too many, as all new ones are from then on. */
  admit(path: string): boolean {
    const fresh: string[] = []
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const folder = path.slice(0, end)
      if (this.#known.has(folder)) break
      fresh.push(folder)
    }
    if (fresh.length > this.#room) this.#room = 0
    if (fresh.length > this.#room) return false
    for (const folder of fresh) this.#known.add(folder)
    this.#room -= fresh.length
    return true
  }
}

/** Whether any segment of a path has one of the names; `*` stands for any characters. */
function matcher(names: string[]): (path: string) => boolean {
  const exact = new Set(names.filter((name) => !name.includes('*')))
  const patterns = names
    .filter((name) => name.includes('*'))
    .map((name) => new RegExp(`^${name.split(/\*+/).map(RegExp.escape).join('[^]*')}$`))
  return (path) =>
    path.split('/').some((segment) => exact.has(segment) || patterns.some((pattern) => pattern.test(segment)))
}
