/** A line longer than this is skipped: no event that matters for counting is. */
const MAX_LINE_BYTES = 4 * 1024 * 1024

const LF = 0x0a

/**
 * Finds the `data:` lines in the bytes of an event stream, wherever they are cut into chunks. The Messages API puts each
 * event's JSON on one such line.
 */
export class SseReader {
  readonly #onData: (data: string) => void
  #parts: Buffer[] = []
  #bytes = 0

  constructor(onData: (data: string) => void) {
    this.#onData = onData
  }

  push(chunk: Buffer): void {
    let from = 0
    for (let at = chunk.indexOf(LF); at !== -1; at = chunk.indexOf(LF, from)) {
      this.#keep(chunk.subarray(from, at))
      this.#line()
      from = at + 1
    }
    this.#keep(chunk.subarray(from))
  }

  #keep(part: Buffer): void {
    this.#bytes += part.length
    if (this.#bytes <= MAX_LINE_BYTES) this.#parts.push(part)
    else this.#parts = []
  }

  #line(): void {
    const line = this.#bytes <= MAX_LINE_BYTES ? Buffer.concat(this.#parts).toString() : ''
    this.#parts = []
    this.#bytes = 0
    if (line.startsWith('data:')) this.#onData(line.slice('data:'.length).trim())
  }
}
