import type { Readable } from 'node:stream'
import type { Blobs } from '../blobs/types.ts'
import { newId } from '../contracts/ids.ts'
import type { Upload } from '../contracts/task.ts'
import type { Database } from '../store/database.ts'
import { blobKeys } from './blob-keys.ts'

/** Workspaces that wait for their task. A task takes its upload by removing the row; the bytes go when the task ends. */
export class Uploads {
  readonly #database: Database
  readonly #blobs: Blobs
  readonly #limits: { maxBytes: number; keepMs: number }

  constructor(database: Database, blobs: Blobs, limits: { maxBytes: number; keepMs: number }) {
    this.#database = database
    this.#blobs = blobs
    this.#limits = limits
  }

  /** Keeps a tar stream as it is; rejects with `too_large`. */
  async add(userId: string, tar: Readable): Promise<Upload> {
    const id = newId('w')
    const size = await this.#blobs.put(blobKeys.upload(id), tar, { maxBytes: this.#limits.maxBytes })
    await this.#database
      .insertInto('uploads')
      .values({ id, userId, size, createdAt: new Date().toISOString() })
      .execute()
    return { id, size }
  }

  /** Removes what no task took in time. */
  async sweep(): Promise<void> {
    const before = new Date(Date.now() - this.#limits.keepMs).toISOString()
    const stale = await this.#database.deleteFrom('uploads').where('createdAt', '<', before).returning('id').execute()
    for (const { id } of stale) await this.#blobs.removeAll(blobKeys.uploads(id))
  }
}
