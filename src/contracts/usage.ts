import { z } from 'zod'

/** Tokens by kind, as the model's answers report them. */
export const TokenUsage = z.object({
  inputTokens: z.int().nonnegative(),
  outputTokens: z.int().nonnegative(),
  cacheReadTokens: z.int().nonnegative(),
  cacheWriteTokens: z.int().nonnegative(),
})
export type TokenUsage = z.infer<typeof TokenUsage>

export const NO_TOKENS: TokenUsage = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 }

/** The sum of two counts. */
export function addTokens(a: TokenUsage, b: TokenUsage): TokenUsage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    cacheReadTokens: a.cacheReadTokens + b.cacheReadTokens,
    cacheWriteTokens: a.cacheWriteTokens + b.cacheWriteTokens,
  }
}

export const UsageGrouping = z.enum(['user', 'task', 'model', 'day', 'agent'])
export type UsageGrouping = z.infer<typeof UsageGrouping>

/**
 * One line of `GET /usage`: `key` is a user id, task id, model name, day (YYYY-MM-DD, UTC), or the agent's own name for one of its
 * subagents (`main` is the agent itself).
 */
export const UsageRow = TokenUsage.extend({
  key: z.string(),
  /** For people, where `key` is an id: a user's name. */
  name: z.string().optional(),
  /** The second key, where rows are split by one. */
  split: z.string().optional(),
  requests: z.int().nonnegative(),
  /** Requests whose answer was cut off or never came: counted from what was seen, or estimated. */
  incomplete: z.int().nonnegative(),
  /** Requests to models without a known price: their tokens are counted, `costUsd` lacks them. */
  unpriced: z.int().nonnegative(),
  costUsd: z.number().nonnegative(),
})
export type UsageRow = z.infer<typeof UsageRow>
