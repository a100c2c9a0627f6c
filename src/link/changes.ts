import { isConfinedPath } from '../contracts/paths.ts'
import { type Change, Change as ChangeSchema, ChangesEnd } from './protocol.ts'
import { misbehaved } from './errors.ts'
import { parseJson } from './request.ts'

const MAX_LINE_BYTES = 64 * 1024
const MAX_BYTES = 64 * 1024 * 1024
const LINE_FEED = 0x0a

async function* linesOf(body: AsyncIterable<Buffer>): AsyncGenerator<{ text: string; bytes: number }> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of body) {
    let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (let end = bytes.indexOf(LINE_FEED); end >= 0; end = bytes.indexOf(LINE_FEED)) {
      yield { text: bytes.toString('utf8', 0, end), bytes: end + 1 }
      bytes = bytes.subarray(end + 1)
    }
    if (bytes.length > MAX_LINE_BYTES) throw misbehaved('The guest sent a line of changes that is too long.')
    rest = bytes
  }
  if (rest.length > 0) throw misbehaved('The guest cut off its changes.')
}

/**
 * Reads `GET /changes`. At most `maxEntries` are kept. Paths that could lead out of a folder, or that we could not name to
 * others (backslashes, see `isConfinedPath`), are counted as skipped.
 */
export async function readChanges(body: AsyncIterable<Buffer>, maxEntries: number) {
  const changes: Change[] = []
  let skipped = 0
  let total = 0
  for await (const { text, bytes } of linesOf(body)) {
    total += bytes
    const line = parseJson(text, ChangesEnd.or(ChangeSchema))
    if ('end' in line) return { changes, skipped: skipped + line.skipped, truncated: false }
    if (changes.length >= maxEntries || total > MAX_BYTES) return { changes, skipped, truncated: true }
    if (isConfinedPath(line.path)) changes.push(line)
    else skipped += 1
  }
  throw misbehaved('The guest did not finish its changes.')
}
