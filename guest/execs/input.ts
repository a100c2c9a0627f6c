import type { Writable } from 'node:stream'
import { Refusal } from '../http.ts'

/**
 * A process's stdin at offsets: what overlaps with what it was already given is ignored, a gap is refused, so that a
 * request repeated after a broken connection never arrives twice. Input for a process that no longer reads is dropped, as
 * a shell's pipe would do.
 */
export class Input {
  #given = 0
  #turn: Promise<unknown> = Promise.resolve()
  #open = true
  readonly #stdin: Writable

  constructor(stdin: Writable) {
    this.#stdin = stdin
    stdin.on('error', () => undefined).once('close', () => (this.#open = false))
  }

  /** Takes `body` as the bytes from `at` on; returns how many the process has been given in all. */
  accept(at: number, body: AsyncIterable<Buffer>, end: boolean): Promise<number> {
    const done = this.#turn.then(() => this.#take(at, body, end))
    // One at a time: a repeated request may overtake the end of the broken one.
    this.#turn = done.catch(() => undefined)
    return done
  }

  /** No process reads any more. */
  close(): void {
    this.#open = false
    this.#stdin.destroy()
  }

  async #take(at: number, body: AsyncIterable<Buffer>, end: boolean): Promise<number> {
    if (at > this.#given) throw new Refusal(409, `input from ${at} on leaves a gap: ${this.#given} bytes were given`)
    let position = at
    for await (const chunk of body) {
      const fresh = chunk.subarray(Math.max(0, this.#given - position))
      position += chunk.length
      if (fresh.length === 0) continue
      this.#given += fresh.length
      await this.#write(fresh)
    }
    if (end && position >= this.#given && this.#open) {
      this.#open = false
      this.#stdin.end()
    }
    return this.#given
  }

  /** Resolves when there is room for more. */
  async #write(data: Buffer): Promise<void> {
    if (!this.#open || this.#stdin.write(data)) return
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#stdin.off('drain', done).off('close', done)
        resolve()
      }
      this.#stdin.on('drain', done).on('close', done)
    })
  }
}
