import type { Readable } from 'node:stream'
import { readTar } from './tar-reader.ts'

/** What a tar may add to its contents: headers, padding, long names. */
const OVERHEAD_BYTES = 16 * 1024 * 1024

/**
 * Reads a tar stream from a guest, which may hold anything: only regular files that were asked for are taken, each once, each
 * whole in memory. The stream as a whole is bounded.
 */
export async function receiveArchive(
  tar: Readable,
  limits: { wanted: Set<string>; maxFileBytes: number; maxBytes: number },
  take: (path: string, content: Buffer) => Promise<void>,
): Promise<void> {
  const wanted = new Set(limits.wanted)
  const files = readTar(tar, {
    maxBytes: limits.maxBytes + OVERHEAD_BYTES,
    wants: (path, size) => size <= limits.maxFileBytes && wanted.delete(plain(path)),
  })
  for await (const { path, content } of files) await take(plain(path), content)
}

function plain(path: string): string {
  return path.replace(/^\.\//, '')
}
