import { sql } from 'kysely'
import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import type { Storage } from '../store/types.ts'
import type { Logger } from '../telemetry/types.ts'

/** What a usage record takes over from the journal as it is. */
const SAME = [
  'userId',
  'taskId',
  'machineId',
  'sessionId',
  'agentId',
  'model',
  'inputTokens',
  'outputTokens',
  'cacheReadTokens',
  'cacheWriteTokens',
  'costUsd',
  'chargeUsd',
  'status',
] as const

/**
 * Counts what an orchestrator that was killed left in the journal: as incomplete, with the tokens seen, and charged with the most that
 * it can have cost, at the time at which it began. One transaction, so that who is killed in this has counted nothing. No request may
 * be under way. Rejects with `storage_failed`.
 */
async function settle(database: Database, storage: Storage, log: Logger): Promise<void> {
  const settled = await storage.persist(() => move(database))
  for (const request of settled) log.warn(request, 'A model request was cut off by the end of the last run')
}

function move(database: Database) {
  return storing("Model requests of the last run can't be counted", () =>
    database.transaction().execute(async (trx) => {
      await trx
        .insertInto('usageRecords')
        .columns([...SAME, 'requestId', 'at', 'complete'])
        .expression(
          trx
            .selectFrom('modelRequests')
            .select([...SAME, 'id', 'startedAt', sql<number>`0`.as('complete')])
            .orderBy('startedAt'),
        )
        .execute()
      return trx.deleteFrom('modelRequests').returning(['id', 'taskId', 'model', 'chargeUsd']).execute()
    }),
  )
}

/** `settle`, once however often it is called; after a failure the next call tries again. */
export function settleOnce(database: Database, storage: Storage, log: Logger): () => Promise<void> {
  let settled: Promise<void> | undefined
  return () => {
    settled ??= settle(database, storage, log).catch((error: unknown) => {
      settled = undefined
      throw error
    })
    return settled
  }
}
