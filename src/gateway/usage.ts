import { sql } from 'kysely'
import type { UsageGrouping, UsageRow } from '../contracts/usage.ts'
import type { Database } from '../store/database.ts'
import type { Usage } from './types.ts'

/** More groups than this are cut off, the costliest (of days: the latest) kept. */
const MAX_ROWS = 1000

/** What stands as `key` of a row. */
const KEYS = {
  user: sql<string>`user_id`,
  // Machines without a task have usage too.
  task: sql<string>`coalesce(task_id, machine_id)`,
  model: sql<string>`model`,
  day: sql<string>`substr(at, 1, 10)`,
} satisfies Record<UsageGrouping, unknown>

/** Sums of what the gateway has counted. */
export function createUsage(database: Database): Usage {
  return {
    async query({ by, since, userId }): Promise<UsageRow[]> {
      let query = database
        .selectFrom('usageRecords')
        .select(({ fn }) => [
          KEYS[by].as('key'),
          fn.countAll().as('requests'),
          fn.sum('inputTokens').as('inputTokens'),
          fn.sum('outputTokens').as('outputTokens'),
          fn.sum('cacheReadTokens').as('cacheReadTokens'),
          fn.sum('cacheWriteTokens').as('cacheWriteTokens'),
          fn.coalesce(fn.sum('costUsd'), sql<number>`0`).as('costUsd'),
        ])
        .groupBy(KEYS[by])
        .orderBy(by === 'day' ? 'key' : 'costUsd', 'desc')
        .limit(MAX_ROWS)
      if (since !== undefined) query = query.where('at', '>=', since)
      if (userId !== undefined) query = query.where('userId', '=', userId)
      const rows = await query.execute()
      // PostgreSQL gives sums as text.
      return rows.map(({ key, ...sums }) => ({
        key,
        requests: Number(sums.requests),
        inputTokens: Number(sums.inputTokens),
        outputTokens: Number(sums.outputTokens),
        cacheReadTokens: Number(sums.cacheReadTokens),
        cacheWriteTokens: Number(sums.cacheWriteTokens),
        costUsd: Number(sums.costUsd),
      }))
    },
  }
}
