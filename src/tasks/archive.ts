import { pipeline } from 'node:stream/promises'
import type { Readable } from 'node:stream'
import { createGzip } from 'node:zlib'
import { pack } from 'tar-stream'
import type { Pack } from 'tar-stream'
import type { Blobs } from '../blobs/types.ts'
import type { ResultFile } from '../contracts/task.ts'
import { VivariumError } from '../contracts/errors.ts'
import { blobKeys } from './blob-keys.ts'

/** The files of a task as a gzipped tar stream, made while it is read: nothing is held whole. */
export function packResults(taskId: string, files: ResultFile[], blobs: Blobs): Readable {
  const tar = pack()
  const gzip = createGzip()
  const flow = async () => {
    const packed = pipeline(tar, gzip)
    await Promise.all([packed, addAll(tar, taskId, files, blobs)])
  }
  // A broken archive must not look like a whole one; a reader that left needs nothing more.
  flow().catch((error: unknown) => {
    tar.destroy()
    gzip.destroy(error instanceof Error ? error : new Error(String(error)))
  })
  return gzip
}

async function addAll(tar: Pack, taskId: string, files: ResultFile[], blobs: Blobs): Promise<void> {
  for (const { path, size } of files) {
    const body = await blobs.get(blobKeys.file(taskId, path))
    if (body === undefined) throw new VivariumError('storage_failed', `The file ${path} is gone from the store.`)
    await pipeline(body, tar.entry({ name: path, size, mode: 0o644 }))
  }
  tar.finalize()
}
