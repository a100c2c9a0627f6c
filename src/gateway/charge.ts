import { newId } from '../contracts/ids.ts'
import { NO_TOKENS } from '../contracts/usage.ts'
import type { Attribution } from './attribution.ts'
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

/** No model gives more in one answer, whatever a request allows. */
const MAX_OUTPUT_TOKENS = 128_000

/** Output tokens that a request under way is taken to cause, as long as its answer has not said more. */
const EXPECTED_OUTPUT_TOKENS = 4096

/** What one model request costs: expected before its answer, counted while that passes by, estimated where it never comes. */
export class Charge implements UnderWay {
  readonly id = newId('mr')
  readonly attribution: Attribution
  readonly startedAt: Date
  readonly reader = new RequestReader()
  readonly #prices: PriceTable
  /** The whole request was sent, so that whoever answers models may bill it. */
  #sent = false
  #meter: Meter | undefined

  constructor(prices: PriceTable, attribution: Attribution, startedAt: Date) {
    this.#prices = prices
    this.attribution = attribution
    this.startedAt = startedAt
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
    return Math.max(expected, this.#counted?.chargedUsd() ?? 0)
  }

  /** The most that it can cost from what is known of it: as long as its answer has not ended, all the output that it allows. */
  mostUsd(): number {
    const { model, maxTokens = MAX_OUTPUT_TOKENS } = this.reader.facts()
    const output = Math.min(maxTokens, MAX_OUTPUT_TOKENS)
    return this.#counted?.mostUsd(output) ?? costOf(this.#estimate(output), this.#prices.charged(model))
  }

  /** What is recorded of it when it has ended; undefined where nobody can have billed it. */
  usage(): ModelUsage | undefined {
    return this.#meter === undefined && !this.#sent ? undefined : this.seen()
  }

  /** What has been seen of it, taken for sent. */
  seen(): ModelUsage {
    const counted = this.#counted
    if (counted !== undefined) return { requestId: this.id, ...counted.usage(), chargedUsd: counted.chargedUsd() }
    const { model } = this.reader.facts()
    const usage = this.#unanswered()
    const price = this.#prices.find(model)
    return {
      requestId: this.id,
      ...NO_TOKENS,
      model,
      inputTokens: usage.input_tokens,
      outputTokens: usage.output_tokens,
      costUsd: price === undefined ? null : costOf(usage, price),
      chargedUsd: costOf(usage, this.#prices.charged(model)),
      complete: false,
      status: this.#meter?.status ?? 0,
    }
  }

  /** What counts the answer, once that has said anything of its tokens. */
  get #counted(): Meter | undefined {
    return this.#meter?.hasBegun === true ? this.#meter : undefined
  }

  /** A streamed answer begins with its first token, so one that has not begun has none. One in a piece may be all written. */
  #unanswered(): ApiUsage {
    const { stream, maxTokens = EXPECTED_OUTPUT_TOKENS } = this.reader.facts()
    return this.#estimate(stream ? 0 : Math.min(maxTokens, MAX_OUTPUT_TOKENS))
  }

  #estimate(outputTokens: number): ApiUsage {
    const tokens = Math.ceil(this.reader.facts().bytes / BYTES_PER_TOKEN)
    return ApiUsage.parse({ input_tokens: Math.min(tokens, MAX_INPUT_TOKENS), output_tokens: Math.ceil(outputTokens) })
  }
}
