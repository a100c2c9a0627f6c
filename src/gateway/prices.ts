/** US dollars per million tokens. */
export interface Price {
  input: number
  output: number
  cacheRead: number
  /** Cache writes that live five minutes. */
  cacheWrite5m: number
  cacheWrite1h: number
}

export interface ModelPrice extends Price {
  /** Prices of an answer whose prompt (cached parts included) is longer than `above` tokens. */
  longPrompt?: Price & { above: number }
  /** Prices of fast mode, where the model has one. */
  fast?: Price
}

/** Dollars for one search by the server's web search tool. */
export const WEB_SEARCH_USD = 0.01

/** Factor on answers that were asked to be computed in the US (`inference_geo`). */
export const US_ONLY_FACTOR = 1.1

/** A price whose cache writes cost 1.25 and 2 times the input, as all do. */
export function withCachePrices(input: number, output: number, cacheRead: number): Price {
  return { input, output, cacheRead, cacheWrite5m: input * 1.25, cacheWrite1h: input * 2 }
}

const price = withCachePrices

const MYTHOS_5_2 = { ...price(8, 40, 0.2), fast: price(16, 80, 0.4) }
const OPUS_4_6 = { ...price(5, 25, 0.5), fast: price(30, 150, 3) }
const OPUS_5 = { ...price(5, 25, 0.5), fast: price(10, 50, 1) }
const SONNET_4 = price(3, 15, 0.3)

/** List prices by model, as Claude Code 2.1.330 knows them (November 2026), so that its count and ours agree. */
export const LIST_PRICES: Readonly<Record<string, ModelPrice>> = {
  'claude-3-5-haiku': price(0.8, 4, 0.08),
  'claude-haiku-4-5': price(1, 5, 0.1),
  'claude-haiku-5-5': { ...price(0.1, 0.5, 0.01), longPrompt: { above: 100_000, ...price(0.5, 2.5, 0.05) } },
  'claude-3-5-sonnet': SONNET_4,
  'claude-3-7-sonnet': SONNET_4,
  'claude-sonnet-4': SONNET_4,
  'claude-sonnet-4-0': SONNET_4,
  'claude-sonnet-4-5': SONNET_4,
  'claude-sonnet-4-6': SONNET_4,
  'claude-sonnet-5': price(2, 10, 0.2),
  'claude-sonnet-5-5': price(2, 10, 0.1),
  'claude-opus-4': price(15, 75, 1.5),
  'claude-opus-4-0': price(15, 75, 1.5),
  'claude-opus-4-1': price(15, 75, 1.5),
  'claude-opus-4-5': price(5, 25, 0.5),
  'claude-opus-4-6': OPUS_4_6,
  'claude-opus-4-7': OPUS_4_6,
  'claude-opus-4-8': OPUS_5,
  'claude-opus-5': OPUS_5,
  'claude-opus-5-5': { ...price(4, 20, 0.2), fast: price(8, 40, 0.4) },
  'claude-fable-5': price(10, 50, 1),
  'claude-fable-5-1': price(10, 50, 0.25),
  'claude-fable-5-2': MYTHOS_5_2,
  'claude-mythos-5': price(10, 50, 1),
  'claude-mythos-5-1': price(10, 50, 0.25),
  'claude-mythos-5-2': MYTHOS_5_2,
}

/** What a budget is charged for a model without a known price: as much as the dearest. */
export const DEAREST: ModelPrice = price(30, 150, 3)
