import { Transform, type Readable, type TransformCallback } from 'node:stream'
import { VivariumError } from '../contracts/errors.ts'
import { abortError, guestLost, misbehaved, SessionBroken } from './errors.ts'
import { type Answer, brokenOff, endedWhole } from './request.ts'

export interface BodyLimits {
  maxBytes: number
  /** What the guest has claimed: less or more is an error. */
  exactBytes?: number | undefined
  /** Without a byte while the reader waits for one. */
  idleMs: number
  signal?: AbortSignal | undefined
}

const IDLE_TICKS = 10

/** Passes a guest's bytes on, up to a cap. */
class LimitedBody extends Transform {
  readonly #answer: Answer
  readonly #limits: BodyLimits
  readonly #watch: NodeJS.Timeout
  #received = 0
  #idleTicks = 0

  constructor(answer: Answer, limits: BodyLimits) {
    super({ highWaterMark: 256 * 1024 })
    this.#answer = answer
    this.#limits = limits
    this.#watch = setInterval(() => this.#tick(), limits.idleMs / IDLE_TICKS)
    limits.signal?.addEventListener('abort', this.#onAbort)
    answer.stream.once('close', () => {
      if (!answer.stream.readableEnded) this.destroy(this.#brokenOff())
    })
    answer.stream.pipe(this)
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#received += chunk.length
    this.#idleTicks = 0
    if (this.#received <= this.#limits.maxBytes) done(null, chunk)
    else done(new VivariumError('too_large', `It is larger than ${this.#limits.maxBytes} bytes.`))
  }

  override _flush(done: TransformCallback): void {
    if (!endedWhole(this.#answer)) return done(this.#brokenOff())
    const { exactBytes } = this.#limits
    const whole = exactBytes === undefined || exactBytes === this.#received
    done(whole ? null : misbehaved('The guest sent another number of bytes than it announced.'))
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearInterval(this.#watch)
    this.#limits.signal?.removeEventListener('abort', this.#onAbort)
    this.#answer.stream.destroy()
    done(error)
  }

  readonly #onAbort = () => {
    if (this.#limits.signal !== undefined) this.destroy(abortError(this.#limits.signal))
  }

  #tick(): void {
    // What the reader has not taken yet is not the guest's delay.
    this.#idleTicks = this.readableLength > 0 ? 0 : this.#idleTicks + 1
    if (this.#idleTicks > IDLE_TICKS) this.destroy(misbehaved('The guest stopped in the middle of an answer.'))
  }

  #brokenOff(): Error {
    const error = brokenOff(this.#answer.session)
    return error instanceof SessionBroken ? guestLost('The guest was lost in the middle of an answer.') : error
  }
}

/**
 * The body of an answer as a stream that ends in an error rather than late, short or large: `too_large`, `guest_misbehaved`
 * (broken off by the agent, silent, not what was announced), `guest_lost` (the session ended).
 */
export function limitedBody(answer: Answer, limits: BodyLimits): Readable {
  return new LimitedBody(answer, limits)
}
