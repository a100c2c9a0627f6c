import type { ServerHttp2Stream } from 'node:http2'
import { Writable } from 'node:stream'
import { callbackify } from 'node:util'
import { COUNT_ON_BYTES, COUNT_ON_MS } from './limits.ts'
import type { Meter } from './meter.ts'

export interface CountedAnswerOptions {
  /** The meter has seen more. */
  onSeen(): void
  /** All has been seen. What makes the answer whole is passed on when this has resolved. */
  onEnd(): Promise<void>
}

/**
 * Where the bytes of a model's answer go: to the meter, and on to the guest as long as it is there. An answer that its guest has
 * left is still counted to its end, as it is billed to its end; within COUNT_ON_BYTES, the rest is the meter's to estimate.
 */
export class CountedAnswer extends Writable {
  readonly #stream: ServerHttp2Stream
  readonly #meter: Meter
  readonly #options: CountedAnswerOptions
  /** Of an answer in one piece: its latest chunk, which may be what makes it whole. */
  #last: Buffer | undefined
  #bytesLeft = COUNT_ON_BYTES

  constructor(stream: ServerHttp2Stream, meter: Meter, options: CountedAnswerOptions) {
    super()
    this.#stream = stream
    this.#meter = meter
    this.#options = options
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    callbackify(() => this.#take(chunk))(done)
  }

  override _final(done: (error?: Error | null) => void): void {
    callbackify(() => this.#end())(done)
  }

  /** An answer that breaks off must not look whole to the guest. */
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (error !== null) this.#stream.destroy(error)
    done(error)
  }

  async #take(chunk: Buffer): Promise<void> {
    const meter = this.#meter
    meter.push(chunk)
    this.#options.onSeen()
    if (meter.isStream) {
      // The agent knows it for whole, although its stream may not have ended.
      if (meter.isComplete) await this.#options.onEnd()
      return this.#pass(chunk)
    }
    const before = this.#last
    this.#last = chunk
    if (before !== undefined) await this.#pass(before)
  }

  async #end(): Promise<void> {
    this.#meter.end()
    await this.#options.onEnd()
    if (this.#last !== undefined) await this.#pass(this.#last)
    if (!hasLeft(this.#stream)) this.#stream.end()
  }

  /** Resolves when the guest takes more. */
  async #pass(chunk: Buffer): Promise<void> {
    const stream = this.#stream
    if (hasLeft(stream)) {
      this.#bytesLeft -= chunk.length
      if (this.#bytesLeft < 0) throw new Error('The guest left, and much is still to come.')
    } else if (!stream.write(chunk)) {
      await new Promise<void>((resolve) => {
        const goOn = () => {
          stream.off('drain', goOn)
          stream.off('close', goOn)
          resolve()
        }
        stream.on('drain', goOn)
        stream.on('close', goOn)
      })
    }
  }
}

export function hasLeft(stream: ServerHttp2Stream): boolean {
  return stream.destroyed || stream.closed
}

/** How long things are waited for on behalf of a guest. */
export class Patience implements Disposable {
  /** Aborts when the guest leaves: nothing that was not begun is begun. */
  readonly guestThere: AbortSignal
  /** Aborts COUNT_ON_MS later: what was begun is given up. Both abort with the machine's end. */
  readonly over: AbortSignal
  readonly #left = new AbortController()
  readonly #late = new AbortController()
  readonly #stream: ServerHttp2Stream
  #timer: NodeJS.Timeout | undefined

  constructor(stream: ServerHttp2Stream, closed: AbortSignal) {
    this.#stream = stream
    this.guestThere = AbortSignal.any([this.#left.signal, closed])
    this.over = AbortSignal.any([this.#late.signal, closed])
    if (hasLeft(stream)) this.#leave()
    else stream.once('close', this.#leave)
  }

  readonly #leave = () => {
    this.#left.abort(new Error('The guest left.'))
    this.#timer = setTimeout(
      () => this.#late.abort(new Error('The guest left, and the answer takes long.')),
      COUNT_ON_MS,
    )
  };

  [Symbol.dispose](): void {
    this.#stream.off('close', this.#leave)
    clearTimeout(this.#timer)
  }
}
