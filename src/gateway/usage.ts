import { sql } from 'kysely'
import type { UsageGrouping, UsageRow } from '../contracts/usage.ts'
import type { Database } from '../store/database.ts'
import type { Usage } from './types.ts'

/** More groups than this are cut off unless the query allows more, the costliest (of days: the latest) kept. */
const MAX_ROWS = 1000

/** What stands as `key` of a row. */
const KEYS = {
  user: sql<string>`usage_records.user_id`,
  // Machines without a task have usage too.
  task: sql<string>`coalesce(usage_records.task_id, usage_records.machine_id)`,
  model: sql<string>`usage_records.model`,
  day: sql<string>`substr(usage_records.at, 1, 10)`,
  agent: sql<string>`coalesce(usage_records.agent_id, 'main')`,
} satisfies Record<UsageGrouping, unknown>

const TRUE_COUNT = (condition: ReturnType<typeof sql<boolean>>) =>
  sql<number>`sum(case when ${condition} then 1 else 0 end)`

/** Sums of what the gateway has counted. */
export function createUsage(database: Database): Usage {
  return {
    async query({ by, split, since, userId, taskId, limit }): Promise<UsageRow[]> {
      const second = split === undefined || split === by ? undefined : KEYS[split]
      let query = database
        .selectFrom('usageRecords')
        .leftJoin('users', 'users.id', 'usageRecords.userId')
        .select(({ fn }) => [
          KEYS[by].as('key'),
          sql<string | null>`${second ?? sql`null`}`.as('split'),
          fn.max('users.name').as('name'),
          fn.countAll().as('requests'),
          TRUE_COUNT(sql`complete = 0`).as('incomplete'),
          TRUE_COUNT(sql`cost_usd is null`).as('unpriced'),
          fn.sum('inputTokens').as('inputTokens'),
          fn.sum('outputTokens').as('outputTokens'),
          fn.sum('cacheReadTokens').as('cacheReadTokens'),
          fn.sum('cacheWriteTokens').as('cacheWriteTokens'),
          fn.coalesce(fn.sum('costUsd'), sql<number>`0`).as('costUsd'),
        ])
        .groupBy(second === undefined ? [KEYS[by]] : [KEYS[by], second])
        .orderBy(by === 'day' ? 'key' : 'costUsd', 'desc')
        .limit(limit ?? MAX_ROWS)
      if (since !== undefined) query = query.where('at', '>=', since)
      if (userId !== undefined) query = query.where('usageRecords.userId', '=', userId)
      if (taskId !== undefined) query = query.where('taskId', '=', taskId)
      const rows = await query.execute()
      return rows.map(({ key, split, name, ...sums }) => ({
        key,
        ...(by === 'user' && name !== null ? { name } : {}),
        ...(split === null ? {} : { split }),
        // PostgreSQL gives sums as text.
        requests: Number(sums.requests),
        incomplete: Number(sums.incomplete),
        unpriced: Number(sums.unpriced),
        inputTokens: Number(sums.inputTokens),
        outputTokens: Number(sums.outputTokens),
        cacheReadTokens: Number(sums.cacheReadTokens),
        cacheWriteTokens: Number(sums.cacheWriteTokens),
        costUsd: Number(sums.costUsd),
      }))
    },
  }
}
