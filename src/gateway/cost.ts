import { z } from 'zod'
import type { TokenUsage } from '../contracts/usage.ts'
import { US_ONLY_FACTOR, WEB_SEARCH_USD, type ModelPrice } from './prices.ts'

const count = z.int().nonnegative().catch(0)

/** The `usage` object of an answer. What is missing or odd counts as nothing: an upstream may leave out any field. */
export const ApiUsage = z.object({
  input_tokens: count,
  output_tokens: count,
  cache_read_input_tokens: count,
  cache_creation_input_tokens: count,
  cache_creation: z.object({ ephemeral_1h_input_tokens: count }).catch({ ephemeral_1h_input_tokens: 0 }),
  server_tool_use: z.object({ web_search_requests: count }).catch({ web_search_requests: 0 }),
  speed: z.string().catch('standard'),
  inference_geo: z.string().catch(''),
})
export type ApiUsage = z.infer<typeof ApiUsage>

/** Tokens by kind in our own words. */
export function tokensOf(usage: ApiUsage): TokenUsage {
  return {
    inputTokens: usage.input_tokens,
    outputTokens: usage.output_tokens,
    cacheReadTokens: usage.cache_read_input_tokens,
    cacheWriteTokens: usage.cache_creation_input_tokens,
  }
}

/** Dollars that an answer costs at a price. */
export function costOf(usage: ApiUsage, model: ModelPrice): number {
  const prompt = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
  const isLong = model.longPrompt !== undefined && prompt > model.longPrompt.above
  const price = (usage.speed === 'fast' ? model.fast : undefined) ?? (isLong ? model.longPrompt : undefined) ?? model
  const oneHour = Math.min(usage.cache_creation.ephemeral_1h_input_tokens, usage.cache_creation_input_tokens)
  const millionths =
    usage.input_tokens * price.input +
    usage.output_tokens * price.output +
    usage.cache_read_input_tokens * price.cacheRead +
    oneHour * price.cacheWrite1h +
    (usage.cache_creation_input_tokens - oneHour) * price.cacheWrite5m
  const tokens = (millionths / 1e6) * (usage.inference_geo === 'us' ? US_ONLY_FACTOR : 1)
  return tokens + usage.server_tool_use.web_search_requests * WEB_SEARCH_USD
}
