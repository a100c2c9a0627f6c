import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import type { Attribution } from './attribution.ts'
import type { UsageRecord } from './journal.ts'
import type { EgressContext, ModelUsage } from './types.ts'

/** The record that counts a request. */
export function recordOf(
  usage: ModelUsage,
  { userId, taskId, machineId, sessionId, agentId, at }: EgressContext & Attribution & { at: Date },
): UsageRecord {
  const { requestId, model, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens } = usage
  const { costUsd, chargedUsd, status, complete } = usage
  return {
    requestId,
    userId,
    taskId,
    machineId,
    sessionId,
    agentId,
    at: at.toISOString(),
    model,
    inputTokens,
    outputTokens,
    cacheReadTokens,
    cacheWriteTokens,
    costUsd,
    chargeUsd: chargedUsd,
    status,
    complete: complete ? 1 : 0,
  }
}

/** What a task's requests were counted as, the first one first. Those of versions without a journal, which have no id, are left out. */
export async function recordsOf(database: Database, taskId: string): Promise<ModelUsage[]> {
  const rows = await storing(`The usage of ${taskId} can't be read`, () =>
    database
      .selectFrom('usageRecords')
      .where('taskId', '=', taskId)
      .select(['requestId', 'model', 'inputTokens', 'outputTokens', 'cacheReadTokens', 'cacheWriteTokens'])
      .select(['costUsd', 'chargeUsd', 'status', 'complete'])
      .orderBy('id')
      .execute(),
  )
  return rows.flatMap(({ requestId, chargeUsd, complete, ...usage }) =>
    requestId === null ? [] : [{ requestId, ...usage, chargedUsd: chargeUsd, complete: complete === 1 }],
  )
}
