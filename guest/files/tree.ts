import { stat } from 'node:fs/promises'
import type { TreeEntry, TreeResponse } from '../../src/link/protocol.ts'
import { answerJson, pathParameter, Refusal, type Request } from '../http.ts'
import { walk, type WalkedEntry } from './walk.ts'

const MAX_ENTRIES = 10_000
/** Of the answer, which the host takes up to twice as much of. Long paths reach it first. */
const MAX_BYTES = 8 * 1024 * 1024

/** `GET /tree?path=`: everything below a folder, level by level, with paths relative to it. */
export async function getTree({ stream, query }: Request): Promise<void> {
  const path = pathParameter(query)
  if (!(await stat(path)).isDirectory()) throw new Refusal(422, `${path} is not a folder`)
  const entries: TreeEntry[] = []
  let truncated = false
  let bytes = 0
  for await (const walked of walk(path, () => true).entries) {
    const entry = toEntry(walked)
    bytes += Buffer.byteLength(JSON.stringify(entry))
    truncated = entries.length === MAX_ENTRIES || bytes > MAX_BYTES
    if (truncated) break
    entries.push(entry)
  }
  answerJson(stream, { entries, truncated } satisfies TreeResponse)
}

function toEntry({ path, stat }: WalkedEntry): TreeEntry {
  const type = stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : 'other'
  return { path, type, size: Number(stat.size), mode: Number(stat.mode) & 0o7777 }
}
