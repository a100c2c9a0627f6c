import { sql } from 'kysely'
import type { Database } from '../store/database.ts'

/**
 * What each user's requests have been charged on each day (UTC): the sums that budgets of days and months are checked against.
 * Read once from the store, then kept in memory, so that all machines of a user see every charge at once.
 */
export class Spending {
  readonly #database: Database
  /** Day (YYYY-MM-DD) → user → dollars. Small: one number for each user and day of service. */
  readonly #days = new Map<string, Map<string, number>>()
  #loaded: Promise<void> | undefined

  constructor(database: Database) {
    this.#database = database
  }

  /**
   * Resolves when what was charged before this process began is known, from the beginning of `now`'s month on. Rejects when the
   * store can't say; the next call asks again.
   */
  load(now: Date): Promise<void> {
    this.#loaded ??= this.#read(monthOf(now)).catch((error: unknown) => {
      this.#loaded = undefined
      throw error
    })
    return this.#loaded
  }

  add(userId: string, usd: number, at: Date): void {
    const day = dayOf(at)
    const users = this.#days.get(day) ?? new Map<string, number>()
    this.#days.set(day, users)
    users.set(userId, (users.get(userId) ?? 0) + usd)
  }

  /** Dollars in a day (`2026-11-22`) or month (`2026-11`), of one user or of all. */
  total(period: string, userId?: string): number {
    let sum = 0
    for (const [day, users] of this.#days) {
      if (!day.startsWith(period)) continue
      if (userId !== undefined) sum += users.get(userId) ?? 0
      else for (const usd of users.values()) sum += usd
    }
    return sum
  }

  async #read(since: string): Promise<void> {
    const day = sql<string>`substr(at, 1, 10)`
    const rows = await this.#database
      .selectFrom('usageRecords')
      .select(({ fn }) => [day.as('day'), 'userId', fn.sum('chargeUsd').as('usd')])
      .where('at', '>=', since)
      .groupBy([day, 'userId'])
      .execute()
    for (const { day, userId, usd } of rows) this.add(userId, Number(usd), new Date(day))
  }
}

/** The day of a time in UTC, YYYY-MM-DD. */
export function dayOf(at: Date): string {
  return at.toISOString().slice(0, 10)
}

/** The month of a time in UTC, YYYY-MM. */
export function monthOf(at: Date): string {
  return at.toISOString().slice(0, 7)
}
