import { Duplex } from 'node:stream'
import type { Rate } from './rate.ts'

/** A connection at a rate of bytes, both directions together. What can't pass yet waits where it is: here is one piece of each direction. */
export class Throttled extends Duplex {
  readonly #inner: Duplex
  readonly #rate: Rate
  readonly #timers = new Set<NodeJS.Timeout>()
  /** Called when whoever reads has room again. */
  #wanted: () => void = () => undefined

  constructor(inner: Duplex, rate: Rate) {
    super({ allowHalfOpen: true })
    this.#inner = inner
    this.#rate = rate
    inner.once('close', () => {
      // What has come in to its end is still passed on at its rate.
      if (!inner.readableEnded) this.destroy()
    })
    this.#passIn().catch((error: Error) => this.destroy(error))
  }

  override _read(): void {
    this.#wanted()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#afterTaking(chunk.length, () => this.#inner.write(chunk, done))
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#inner.end(done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#inner.destroy()
    done(error)
  }

  async #passIn(): Promise<void> {
    for await (const chunk of this.#inner.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      await new Promise<void>((resolve) => this.#afterTaking(chunk.length, resolve))
      if (this.push(chunk)) continue
      await new Promise<void>((resolve) => (this.#wanted = resolve))
    }
    this.push(null)
  }

  #afterTaking(bytes: number, action: () => void): void {
    const waitMs = this.#rate.take(bytes)
    if (waitMs === 0) return action()
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      action()
    }, waitMs)
    this.#timers.add(timer)
  }
}
