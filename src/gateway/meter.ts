import { z } from 'zod'
import { ApiUsage, costOf, tokensOf } from './cost.ts'
import type { PriceTable } from './price-table.ts'
import { SseReader } from './sse.ts'
import type { AnswerUsage } from './types.ts'

/** A whole answer larger than this is passed on but not counted; the API's own limits keep answers far below. */
const MAX_JSON_BYTES = 16 * 1024 * 1024

/** Characters of text to a token, roughly; used only where an answer ends before it names its count. */
const CHARS_PER_TOKEN = 4

/** The usage of a streamed answer arrives in parts, each naming the totals so far of the fields it has. */
const PartialUsage = z.record(z.string(), z.unknown())

const Message = z.object({ model: z.string(), usage: PartialUsage })

/** The growing text of a block: prose, thinking, or the input of a tool call. */
const Delta = z.object({ text: z.string(), thinking: z.string(), partial_json: z.string() }).partial()

const StreamEvent = z.discriminatedUnion('type', [
  z.object({ type: z.literal('message_start'), message: Message }),
  z.object({ type: z.literal('content_block_delta'), delta: Delta }),
  z.object({ type: z.literal('message_delta'), usage: PartialUsage }),
  z.object({ type: z.literal('message_stop') }),
  z.object({ type: z.literal('error'), error: z.object({ type: z.string(), message: z.string() }) }),
])

/** Counts the tokens of one answer while its bytes pass by. Never throws: an answer that can't be read is merely incomplete. */
export class Meter {
  /** HTTP status of the answer. */
  readonly status: number
  readonly #prices: PriceTable
  readonly #sse: SseReader | undefined
  #json: Buffer[] = []
  #jsonBytes = 0
  #model = 'unknown'
  #usage: Record<string, unknown> = {}
  #deltaChars = 0
  #hasBegun = false
  #complete = false
  #error: { type: string; message: string } | undefined

  constructor(status: number, contentType: string, prices: PriceTable) {
    this.status = status
    this.#prices = prices
    this.#sse = contentType.startsWith('text/event-stream') ? new SseReader((data) => this.#event(data)) : undefined
  }

  /** Takes the next bytes of the answer's body. */
  push(chunk: Buffer): void {
    if (this.#sse !== undefined) return this.#sse.push(chunk)
    this.#jsonBytes += chunk.length
    if (this.#jsonBytes <= MAX_JSON_BYTES) this.#json.push(chunk)
    else this.#json = []
  }

  /** The whole body has passed by. */
  end(): void {
    if (this.#sse !== undefined || this.#jsonBytes > MAX_JSON_BYTES) return
    const message = Message.safeParse(parseJson(Buffer.concat(this.#json).toString()))
    this.#json = []
    if (message.success) this.#start(message.data)
    this.#complete = message.success
  }

  /** An error that the model reported in the middle of its stream. */
  get error(): { type: string; message: string } | undefined {
    return this.#error
  }

  /** Whether the answer comes as a stream of events, and not in one piece. */
  get isStream(): boolean {
    return this.#sse !== undefined
  }

  /** Whether all of the answer has been seen, so that the count is exact. */
  get isComplete(): boolean {
    return this.#complete
  }

  /** Whether the answer has named its model and the tokens of its prompt. */
  get hasBegun(): boolean {
    return this.#hasBegun
  }

  /** What has been counted so far. */
  usage(): AnswerUsage {
    const usage = this.#apiUsage()
    const price = this.#prices.find(this.#model)
    return {
      model: this.#model,
      ...tokensOf(usage),
      costUsd: price === undefined ? null : costOf(usage, price),
      complete: this.#complete,
      status: this.status,
    }
  }

  /** What a budget is charged: like the cost, but a model without a known price is not free. */
  chargedUsd(): number {
    return this.mostUsd(0)
  }

  /** The same of an answer that, unless it has ended, goes on to so many output tokens. */
  mostUsd(outputTokens: number): number {
    const usage = this.#apiUsage()
    const most = this.#complete ? usage.output_tokens : Math.max(usage.output_tokens, outputTokens)
    return costOf({ ...usage, output_tokens: most }, this.#prices.charged(this.#model))
  }

  /** Only the end of a stream names its output tokens, so an answer that was cut off is estimated from its text. */
  #apiUsage(): ApiUsage {
    const usage = ApiUsage.parse(this.#usage)
    if (this.#complete) return usage
    return { ...usage, output_tokens: Math.max(usage.output_tokens, Math.ceil(this.#deltaChars / CHARS_PER_TOKEN)) }
  }

  #start(message: z.infer<typeof Message>): void {
    this.#hasBegun = true
    this.#model = message.model.slice(0, 200)
    this.#add(message.usage)
  }

  #add(usage: Record<string, unknown>): void {
    const known = Object.entries(usage).filter(([, value]) => value !== null && value !== undefined)
    Object.assign(this.#usage, Object.fromEntries(known))
  }

  #event(data: string): void {
    const event = StreamEvent.safeParse(parseJson(data)).data
    if (event?.type === 'message_start') this.#start(event.message)
    if (event?.type === 'content_block_delta')
      this.#deltaChars += Object.values(event.delta).reduce((sum, text = '') => sum + text.length, 0)
    if (event?.type === 'message_delta') this.#add(event.usage)
    if (event?.type === 'message_stop') this.#complete = true
    if (event?.type === 'error') this.#error = event.error
  }
}

/** Undefined for what is not JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
