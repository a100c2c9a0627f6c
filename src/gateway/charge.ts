import { NO_TOKENS } from '../contracts/usage.ts'
import type { UnderWay } from './budgets.ts'
import { ApiUsage, costOf } from './cost.ts'
import type { Meter } from './meter.ts'
import type { PriceTable } from './price-table.ts'
import { RequestReader } from './request-reader.ts'
import type { ModelUsage } from './types.ts'

/**
 * Bytes of a request's body to a token: what a request whose answer never came is counted by, so rather too few. Prose and code
 * have about four.
 */
const BYTES_PER_TOKEN = 3

/** No model takes a longer prompt than this, however many bytes of pictures are in it. */
const MAX_INPUT_TOKENS = 1_000_000

/** Output tokens that a request under way is taken to cause, as long as its answer has not said more. */
const EXPECTED_OUTPUT_TOKENS = 4096

/** What one model request costs: expected before its answer, counted while that passes by, estimated where it never comes. */
export class Charge implements UnderWay {
  readonly reader = new RequestReader()
  readonly #prices: PriceTable
  /** The whole request was sent, so that whoever answers models may bill it. */
  #sent = false
  #meter: Meter | undefined

  constructor(prices: PriceTable) {
    this.#prices = prices
  }

  /** The upstream has the whole request. */
  sent(): void {
    this.#sent = true
  }

  /** The upstream refused it, and bills nothing. */
  refused(): void {
    this.#sent = false
  }

  /** The answer has begun, and `meter` counts it. */
  answered(meter: Meter): void {
    this.#meter = meter
  }

  expectedUsd(): number {
    const { model, maxTokens = EXPECTED_OUTPUT_TOKENS } = this.reader.facts()
    const output = Math.min(maxTokens, EXPECTED_OUTPUT_TOKENS)
    const expected = costOf(this.#estimate(output), this.#prices.charged(model))
    return Math.max(expected, this.#meter?.chargeUsd() ?? 0)
  }

  /** What budgets are charged when it has ended: like the cost, but a model without a known price is not free. */
  chargeUsd(): number {
    if (this.#meter !== undefined) return this.#meter.chargeUsd()
    return costOf(this.#unanswered(), this.#prices.charged(this.reader.facts().model))
  }

  /** What is recorded of it; undefined where nobody can have billed it. */
  usage(): ModelUsage | undefined {
    if (this.#meter !== undefined) return this.#meter.usage()
    if (!this.#sent) return undefined
    const { model } = this.reader.facts()
    const usage = this.#unanswered()
    const price = this.#prices.find(model)
    return {
      ...NO_TOKENS,
      model,
      inputTokens: usage.input_tokens,
      outputTokens: usage.output_tokens,
      costUsd: price === undefined ? null : costOf(usage, price),
      complete: false,
      status: 0,
    }
  }

  /** A streamed answer begins with its first token, so one that has not begun has none. One in a piece may be all written. */
  #unanswered(): ApiUsage {
    const { stream, maxTokens = EXPECTED_OUTPUT_TOKENS } = this.reader.facts()
    return this.#estimate(stream ? 0 : maxTokens)
  }

  #estimate(outputTokens: number): ApiUsage {
    const tokens = Math.ceil(this.reader.facts().bytes / BYTES_PER_TOKEN)
    return ApiUsage.parse({ input_tokens: Math.min(tokens, MAX_INPUT_TOKENS), output_tokens: Math.ceil(outputTokens) })
  }
}
