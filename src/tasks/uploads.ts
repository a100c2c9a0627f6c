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
  /** When each was first seen, by the clock that only runs: one that is set must not take away what was just sent. */
  #firstSeen = new Map<string, number>()

  constructor(database: Database, blobs: Blobs, limits: { maxBytes: number; keepMs: number }) {
    this.#database = database
    this.#blobs = blobs
    this.#limits = limits
  }

  /** Keeps a tar stream as it is; rejects with `too_large`. */
  async add(userId: string, tar: Readable): Promise<Upload> {
    const id = newId('w')
    await using undo = new AsyncDisposableStack()
    undo.defer(() => this.#blobs.removeAll(blobKeys.uploads(id)))
    const size = await this.#blobs.put(blobKeys.upload(id), tar, { maxBytes: this.#limits.maxBytes })
    await this.#database
      .insertInto('uploads')
      .values({ id, userId, size, createdAt: new Date().toISOString() })
      .execute()
    undo.move()
    this.#firstSeen.set(id, performance.now())
    return { id, size }
  }

  /** Removes what no task took in time. What a previous orchestrator took has its time anew. */
  async sweep(): Promise<void> {
    const now = performance.now()
    const waiting = await this.#database.selectFrom('uploads').select('id').execute()
    this.#firstSeen = new Map(waiting.map(({ id }) => [id, this.#firstSeen.get(id) ?? now]))
    for (const [id, since] of this.#firstSeen) {
      if (now - since <= this.#limits.keepMs) continue
      // A task may take it this very moment: the row decides.
      const { numDeletedRows } = await this.#database.deleteFrom('uploads').where('id', '=', id).executeTakeFirst()
      if (numDeletedRows > 0n) await this.#blobs.removeAll(blobKeys.uploads(id))
    }
  }
}
