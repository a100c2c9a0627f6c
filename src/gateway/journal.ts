import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises'
import type { Insertable, Transaction } from 'kysely'
import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import type { Storage } from '../store/types.ts'
import type { ModelRequestsTable, Tables, UsageRecordsTable } from '../store/tables.ts'

/** Changes that nobody waits for may wait so long for others, to be stored with one commit: each takes a while in which nothing else is done. */
const GATHER_MS = 20

/** Between two commits passes as much time as the first one took, but no more than this. */
const MAX_REST_MS = 50

/** Between two notes of what has been seen of an answer. */
const NOTE_MS = 1000

/** A request as it is to be counted if it is cut off now. */
export type OpenRequest = Insertable<ModelRequestsTable>

/** What changes in it while its answer passes by. */
export type Progress = Pick<
  OpenRequest,
  'model' | 'inputTokens' | 'outputTokens' | 'cacheReadTokens' | 'cacheWriteTokens' | 'costUsd' | 'chargeUsd' | 'status'
>

export type UsageRecord = Insertable<UsageRecordsTable>

interface Change {
  /** When it is to be stored, on the clock of `performance.now()`; up to GATHER_MS earlier where something is stored anyway. */
  due: number
  /** May be done twice: a commit that failed may be in the database all the same. */
  write(trx: Transaction<Tables>): Promise<unknown>
  stored: PromiseWithResolvers<void>
}

/**
 * Model requests from before they are sent until they are counted. Whoever dies in between leaves a row, which the next start counts
 * (`settle`): no request is forgotten, none is counted twice.
 */
export class Journal {
  readonly #database: Database
  readonly #storage: Storage
  /** At most one change of each request: the latest. */
  readonly #changes = new Map<string, Change>()
  /** Requests that have a row, or are about to, with the time of their last note. */
  readonly #open = new Map<string, number>()
  #isRunning = false
  #pause = new AbortController()
  /** Until then no commit begins. */
  #restsUntil = 0

  constructor(database: Database, storage: Storage) {
    this.#database = database
    this.#storage = storage
  }

  /** Resolves when the request is durable: from now on it is counted, whatever happens. Rejects with `storage_failed`, or when it has ended. */
  async begin(request: OpenRequest): Promise<void> {
    const { id } = request
    this.#open.set(id, -Infinity)
    try {
      await this.#put(id, {
        due: performance.now(),
        write: (trx) =>
          trx
            .insertInto('modelRequests')
            .values(request)
            .onConflict((conflict) => conflict.column('id').doNothing())
            .execute(),
      })
    } catch (error) {
      this.#open.delete(id)
      throw error
    }
  }

  /** More has been seen of the answer: stored soon, and after that once a second at most. */
  note(id: string, progress: () => Progress): void {
    const last = this.#open.get(id)
    if (last === undefined || this.#changes.has(id)) return
    const due = Math.max(performance.now() + GATHER_MS, last + NOTE_MS)
    this.#open.set(id, due)
    const write: Change['write'] = (trx) =>
      trx.updateTable('modelRequests').set(progress()).where('id', '=', id).execute()
    // One that can't be stored is replaced by the next.
    this.#put(id, { due, write }).catch(() => undefined)
  }

  /**
   * The request has ended, and is counted by `record`, or by nothing. Resolves when that is stored. Rejects with `storage_failed`; the
   * next start then counts it by what was noted.
   */
  end(id: string, record: UsageRecord | undefined): Promise<void> {
    this.#changes.get(id)?.stored.reject(new Error('The request has ended.'))
    this.#changes.delete(id)
    if (!this.#open.delete(id) && record === undefined) return Promise.resolve()
    return this.#put(id, {
      due: performance.now(),
      async write(trx) {
        if (record !== undefined)
          await trx
            .insertInto('usageRecords')
            .values(record)
            .onConflict((conflict) => conflict.column('requestId').doNothing())
            .execute()
        await trx.deleteFrom('modelRequests').where('id', '=', id).execute()
      },
    })
  }

  #put(id: string, change: Omit<Change, 'stored'>): Promise<void> {
    const stored = Promise.withResolvers<void>()
    this.#changes.set(id, { ...change, stored })
    this.#pause.abort()
    if (!this.#isRunning) void this.#run()
    return stored.promise
  }

  /**
   * Group commit: one transaction at a time. While the disk takes nothing all wait, and the guests with them. Never rejects: each change
   * carries its own outcome.
   */
  async #run(): Promise<void> {
    this.#isRunning = true
    while (this.#changes.size > 0) {
      const due = Math.min(...this.#changes.values().map((change) => change.due))
      const waitMs = Math.max(due, this.#restsUntil) - performance.now()
      if (waitMs > 0) await this.#rest(waitMs)
      else await this.#commit()
    }
    this.#isRunning = false
  }

  /** Until the time is over, or something new has come. */
  async #rest(ms: number): Promise<void> {
    this.#pause = new AbortController()
    await sleep(ms, undefined, { signal: this.#pause.signal }).catch(() => undefined)
  }

  async #commit(): Promise<void> {
    // What comes in one turn of the event loop is stored together, also where it can't wait.
    await immediate()
    const began = performance.now()
    const changes = [...this.#changes].filter(([, { due }]) => due <= began + GATHER_MS)
    for (const [id] of changes) this.#changes.delete(id)
    try {
      await this.#storage.persist(() => this.#store(changes.map(([, { write }]) => write)))
      for (const [, { stored }] of changes) stored.resolve()
    } catch (error) {
      for (const [, { stored }] of changes) stored.reject(error)
    }
    // SQLite's commit blocks this process: half of the time is everybody else's.
    const ended = performance.now()
    this.#restsUntil = ended + Math.min(ended - began, MAX_REST_MS)
  }

  #store(writes: Change['write'][]): Promise<void> {
    return storing("Model requests can't be written down", () =>
      this.#database.transaction().execute(async (trx) => {
        for (const write of writes) await write(trx)
      }),
    )
  }
}
