import type { Readable } from 'node:stream'

/** Bytes by key: result files, patches, transcripts. Keys are confined relative paths (`isConfinedPath`). */
export interface Blobs {
  /** Stores a stream whole or not at all; resolves with its size. Rejects with `too_large` beyond `maxBytes`. */
  put(key: string, body: Readable | Buffer, options?: { maxBytes?: number }): Promise<number>
  /** A stream of bytes `start` to `end` (inclusive, as in HTTP ranges); undefined where there is no such key. */
  get(key: string, range?: { start: number; end: number }): Promise<Readable | undefined>
  /** Size in bytes, or undefined. */
  size(key: string): Promise<number | undefined>
  /** Removes a key; none is fine. */
  remove(key: string): Promise<void>
  /** Bytes on disk of all keys below a prefix that ends in `/`. */
  usage(prefix: string): Promise<number>
  /** The next segments of keys below a prefix that ends in `/`, where more follow, and when each was last added to (ISO 8601). */
  folders(prefix: string): Promise<{ name: string; modifiedAt: string }[]>
  /** Removes every key below a prefix that ends in `/`. */
  removeAll(prefix: string): Promise<void>
}
