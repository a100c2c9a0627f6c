import type { Readable } from 'node:stream'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { extract } from 'tar-stream'
import type { Extract } from 'tar-stream'
import { VivariumError } from '../contracts/errors.ts'

/** What a tar may add to its contents: headers, padding, long names. */
const OVERHEAD_BYTES = 16 * 1024 * 1024

/**
 * Reads a tar stream from a guest, which may hold anything: only regular files that were asked for are taken, each once, each
 * whole in memory. The stream as a whole is bounded, which bounds what a header can make the parser hold.
 */
export async function receiveArchive(
  tar: Readable,
  limits: { wanted: Set<string>; maxFileBytes: number; maxBytes: number },
  take: (path: string, content: Buffer) => Promise<void>,
): Promise<void> {
  const unpack = extract()
  const wanted = new Set(limits.wanted)
  const read = async () => {
    for await (const entry of unpack) {
      const { name, type, size = 0 } = entry.header
      const isWanted = type === 'file' && size <= limits.maxFileBytes && wanted.delete(name.replace(/^\.\//, ''))
      if (isWanted) await take(name.replace(/^\.\//, ''), await contents(entry))
      else entry.resume()
    }
  }
  const results = await Promise.allSettled([
    pipeline(tar, bounded(limits.maxBytes + OVERHEAD_BYTES), unpack),
    read().catch((error: unknown) => fail(unpack, error)),
  ])
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/** Ends the stream that feeds a reader which has failed, so that nothing waits for the other. */
function fail(unpack: Extract, error: unknown): never {
  unpack.destroy(error instanceof Error ? error : new Error(String(error)))
  throw error
}

async function contents(entry: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of entry) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function bounded(maxBytes: number): Transform {
  let bytes = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      if (bytes <= maxBytes) done(null, chunk)
      else done(new VivariumError('guest_misbehaved', 'The guest sent a larger archive than it had announced.'))
    },
  })
}
