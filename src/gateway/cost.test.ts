import { expect, test } from 'vitest'
import { ApiUsage, costOf } from './cost.ts'
import { PriceTable } from './price-table.ts'
import { LIST_PRICES, type ModelPrice } from './prices.ts'

const free: ModelPrice = { input: 0, output: 0, cacheRead: 0, cacheWrite5m: 0, cacheWrite1h: 0 }

const table = new PriceTable()

function cost(model: string, usage: object): number {
  return costOf(ApiUsage.parse(usage), table.find(model) ?? free)
}

test('the cost agrees with what Claude Code reports for the same tokens', () => {
  // From a recorded run of Claude Code 2.1.330: total_cost_usd 0.0177.
  const usage = {
    input_tokens: 3000,
    cache_creation_input_tokens: 600,
    cache_read_input_tokens: 900,
    output_tokens: 126,
  }
  expect(cost('claude-opus-5-5', usage)).toBeCloseTo(0.0177, 10)
})

test('cache writes of an hour, searches, fast mode, long prompts and US-only answers have their own prices', () => {
  const million = 1_000_000
  const writes = { cache_creation_input_tokens: million, cache_creation: { ephemeral_1h_input_tokens: 400_000 } }
  expect(cost('claude-opus-5', writes)).toBeCloseTo(0.4 * 10 + 0.6 * 6.25, 10)
  expect(cost('claude-opus-5', { server_tool_use: { web_search_requests: 3 } })).toBeCloseTo(0.03, 10)
  expect(cost('claude-opus-5', { output_tokens: million, speed: 'fast' })).toBe(50)
  expect(cost('claude-haiku-5-5', { input_tokens: 100_000 })).toBeCloseTo(0.01, 10)
  expect(cost('claude-haiku-5-5', { input_tokens: 100_001 })).toBeCloseTo(0.0500005, 10)
  expect(cost('claude-sonnet-5', { input_tokens: million, inference_geo: 'us' })).toBeCloseTo(2.2, 10)
})

test('a dated or marked name has the price of its model, an unknown model has none', () => {
  expect(table.find('claude-haiku-4-5-20251001')).toBe(table.find('claude-haiku-4-5'))
  expect(table.find('claude-opus-5-5[1m]')).toBe(table.find('claude-opus-5-5'))
  expect(table.find('claude-opus-9')).toBeUndefined()
  expect(table.find('claude-opus-5-9')).toBeUndefined()
  expect(table.find('constructor')).toBeUndefined()
  expect(table.find('')).toBeUndefined()
})

test('odd usage counts as nothing', () => {
  expect(cost('claude-opus-5', { input_tokens: -5, output_tokens: 'many', cache_creation: null, speed: 7 })).toBe(0)
})

test("a server's own prices replace the list's, and name models that the list lacks", () => {
  const own = new PriceTable({
    'claude-opus-5-5': { input: 1, output: 2, cacheRead: 0.5, cacheWrite5m: 3, cacheWrite1h: 4 },
    'claude-next': { input: 10, output: 20 },
  })
  const whole = { input: 1, output: 2, cacheRead: 0.5, cacheWrite5m: 3, cacheWrite1h: 4 }
  expect(own.find('claude-opus-5-5-20991231')).toEqual(whole)
  expect(own.find('claude-next')).toEqual({ input: 10, output: 20, cacheRead: 1, cacheWrite5m: 12.5, cacheWrite1h: 20 })
  expect(own.find('claude-opus-5')).toEqual(table.find('claude-opus-5'))
})

test('a model without a known price is charged to budgets like the dearest', () => {
  const { input, output } = table.charged('claude-unheard-of')
  const models = Object.values(LIST_PRICES).flatMap((price) => [price, price.fast ?? price])
  expect([input, output]).toEqual([
    Math.max(...models.map((price) => price.input)),
    Math.max(...models.map((price) => price.output)),
  ])
})
