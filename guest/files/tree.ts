import { stat } from 'node:fs/promises'
import type { TreeEntry, TreeResponse } from '../../src/link/protocol.ts'
import { answerJson, pathParameter, Refusal, type Request } from '../http.ts'
import { walk, type WalkedEntry } from './walk.ts'

const MAX_ENTRIES = 10_000

/** `GET /tree?path=`: everything below a folder, level by level, with paths relative to it. */
export async function getTree({ stream, query }: Request): Promise<void> {
  const path = pathParameter(query)
  if (!(await stat(path)).isDirectory()) throw new Refusal(422, `${path} is not a folder`)
  const entries: TreeEntry[] = []
  let truncated = false
  for await (const entry of walk(path, () => true).entries) {
    truncated = entries.length === MAX_ENTRIES
    if (truncated) break
    entries.push(toEntry(entry))
  }
  answerJson(stream, { entries, truncated } satisfies TreeResponse)
}

function toEntry({ path, stat }: WalkedEntry): TreeEntry {
  const type = stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : 'other'
  return { path, type, size: Number(stat.size), mode: Number(stat.mode) & 0o7777 }
}
