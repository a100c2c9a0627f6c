import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Change, ChangesEnd } from '../../src/link/protocol.ts'
import { walk } from '../files/walk.ts'
import type { Request } from '../http.ts'
import { readBaseline, signature } from './baseline.ts'
import { excluder } from './exclude.ts'

/** File type bits of a mode, see inode(7). */
const TYPE_MASK = 0o170000n
const SYMLINK = 0o120000n

/** `GET /changes`: what was created, changed or deleted since the baseline, one JSON object a line. */
export async function getChanges({ stream }: Request, stateDir: string): Promise<void> {
  const { request, entries: before } = await readBaseline(stateDir)
  const excluded = excluder(request.exclude)
  const { entries, skipped } = walk(request.root, (path, name) => !excluded(path, name))

  async function* lines() {
    for await (const { path, stat } of entries) {
      const now = signature(stat)
      if (now === undefined) continue
      const then = before.get(path)
      before.delete(path)
      if (then === now) continue
      const type = stat.isSymbolicLink() ? 'symlink' : 'file'
      yield line({ path, kind: then === undefined ? 'created' : 'changed', type, size: Number(stat.size) })
    }
    for (const [path, then] of before) {
      const symlink = (BigInt(then.split(':')[0] ?? 0) & TYPE_MASK) === SYMLINK
      yield line({ path, kind: 'deleted', type: symlink ? 'symlink' : 'file', size: 0 })
    }
    yield `${JSON.stringify({ end: true, skipped: skipped() } satisfies ChangesEnd)}\n`
  }

  stream.respond({ ':status': 200, 'content-type': 'application/x-ndjson' })
  await pipeline(Readable.from(lines()), stream)
}

function line(change: Change): string {
  return `${JSON.stringify(change)}\n`
}
