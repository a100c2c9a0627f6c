import type { AuditEntry, AuditQuery } from '../contracts/secret.ts'
import type { Database } from '../store/database.ts'
import type { Logger } from '../telemetry/types.ts'
import { useLine, type AuditLine } from './audit-line.ts'
import type { SecretTarget, SecretUse } from './types.ts'

const MINUTE_MS = 60_000

/** Uses by one machine of one secret that get a line each within a minute; what is beyond shares one line. */
const LINES_A_MINUTE = 20

/** Lines in one transaction. */
const MAX_BATCH = 500

/** How long uses are kept, and how many: a guest that floods for a day must not push out what it did before. */
const KEEP_USES_DAYS = 90
const KEEP_USES = 250_000
/** Everything else is done by people, who also may be many. */
const KEEP_LINES = 1_000_000
const PRUNE_EVERY_LINES = 1000

interface Window {
  endsAt: number
  lines: number
  /** The line shared by what is beyond the limit. */
  shared: AuditLine | undefined
}

/**
 * Writes a line for each use of a secret, without making the use wait: lines of uses during one write go together with the
 * next. Bounded in memory and in the store, whatever a guest does.
 */
export class Auditor implements AsyncDisposable {
  readonly #database: Database
  readonly #log: Logger
  readonly #windows = new Map<string, Window>()
  readonly #sweep: NodeJS.Timeout
  #pending: AuditLine[] = []
  #writing: Promise<void> | undefined
  #sincePruned = 0

  constructor(database: Database, log: Logger) {
    this.#database = database
    this.#log = log
    this.#sweep = setInterval(() => this.#closeWindows(Date.now()), MINUTE_MS).unref()
  }

  used(secret: SecretTarget, userId: string, use: SecretUse): void {
    const line = useLine(secret, userId, use)
    const { at: _at, count: _count, ...same } = line
    const window = this.#window(JSON.stringify(same), Date.now())
    if (window.shared !== undefined) return void (window.shared.count += 1)
    window.lines += 1
    if (window.lines > LINES_A_MINUTE) window.shared = line
    else this.#write([line])
  }

  /** Newest first. */
  async query({ name, before, limit, userId }: AuditQuery & { userId?: string }): Promise<AuditEntry[]> {
    await this.#writing
    let query = this.#database.selectFrom('audit').selectAll().orderBy('id', 'desc').limit(limit)
    if (name !== undefined) query = query.where('name', '=', name)
    if (before !== undefined) query = query.where('id', '<', before)
    if (userId !== undefined)
      query = query.where((each) => each.or([each('userId', '=', userId), each('ownerId', '=', userId)]))
    return (await query.execute()) as AuditEntry[]
  }

  /** Forgets what is older or more than is kept. */
  async prune(): Promise<void> {
    const newest = await this.#database
      .selectFrom('audit')
      .select(({ fn }) => fn.max('id').as('id'))
      .executeTakeFirst()
    const last = Number(newest?.id ?? 0)
    const oldest = new Date(Date.now() - KEEP_USES_DAYS * 24 * 60 * MINUTE_MS).toISOString()
    await this.#database
      .deleteFrom('audit')
      .where((each) =>
        each.or([
          each('id', '<=', last - KEEP_LINES),
          each.and([
            each('action', '=', 'use'),
            each.or([each('id', '<=', last - KEEP_USES), each('at', '<', oldest)]),
          ]),
        ]),
      )
      .execute()
  }

  /** Every use so far has its line when it resolves. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#sweep)
    this.#closeWindows(Number.POSITIVE_INFINITY)
    while (this.#writing !== undefined) await this.#writing
  }

  #window(key: string, now: number): Window {
    const open = this.#windows.get(key)
    if (open !== undefined && now < open.endsAt) return open
    if (open?.shared !== undefined) this.#write([open.shared])
    const window = { endsAt: now + MINUTE_MS, lines: 0, shared: undefined }
    this.#windows.set(key, window)
    return window
  }

  #closeWindows(now: number): void {
    for (const [key, window] of this.#windows) {
      if (now < window.endsAt) continue
      this.#windows.delete(key)
      if (window.shared !== undefined) this.#write([window.shared])
    }
  }

  #write(lines: AuditLine[]): void {
    this.#pending.push(...lines)
    if (this.#pending.length > 0) this.#writing ??= this.#writeAll()
  }

  async #writeAll(): Promise<void> {
    while (this.#pending.length > 0) {
      const batch = this.#pending.splice(0, MAX_BATCH)
      try {
        await this.#store(batch)
      } catch (error) {
        // The use is over. What can still be done is to tell of it elsewhere.
        this.#log.error({ err: error, lines: batch }, 'Uses of secrets were not written to the audit')
      }
    }
    this.#writing = undefined
  }

  async #store(batch: AuditLine[]): Promise<void> {
    await this.#database.transaction().execute(async (trx) => {
      await trx.insertInto('audit').values(batch).execute()
      const last = new Map(batch.map((line) => [JSON.stringify([line.ownerId, line.name]), line]))
      for (const { ownerId = null, name, at } of last.values()) {
        await trx
          .updateTable('secrets')
          .set({ lastUsedAt: at })
          .where('name', '=', name)
          .where('userId', ownerId === null ? 'is' : '=', ownerId)
          .execute()
      }
    })
    this.#sincePruned += batch.length
    if (this.#sincePruned < PRUNE_EVERY_LINES) return
    this.#sincePruned = 0
    await this.prune()
  }
}
