/** Longest line that is taken as one; Claude Code prints an image twice in its line. */
const MAX_LINE_BYTES = 32 * 1024 * 1024

/** How much of a longer line is kept. */
const KEPT_BYTES = 1024 * 1024

/** A line without its newline; `dropped` counts the bytes that were cut off its end. */
export interface Line {
  bytes: Buffer
  dropped: number
}

/**
 * Cuts a byte stream into lines. Holds at most one line of `maxBytes` in one buffer, however small the pieces in which a
 * hostile guest sends it.
 */
export class LineSplitter {
  readonly #maxBytes: number
  readonly #keptBytes: number
  #buffer = Buffer.alloc(0)
  #length = 0
  #dropped = 0

  constructor(maxBytes = MAX_LINE_BYTES, keptBytes = KEPT_BYTES) {
    this.#maxBytes = maxBytes
    this.#keptBytes = keptBytes
  }

  /** The lines that `chunk` completes. */
  push(chunk: Buffer): Line[] {
    const lines: Line[] = []
    let start = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      this.#take(chunk.subarray(start, end))
      lines.push(this.#finish())
      start = end + 1
    }
    this.#take(chunk.subarray(start))
    return lines
  }

  /** What was left without a newline. */
  end(): Line[] {
    return this.#length === 0 && this.#dropped === 0 ? [] : [this.#finish()]
  }

  #take(piece: Buffer): void {
    if (this.#dropped > 0) {
      this.#dropped += piece.length
      return
    }
    const length = this.#length + piece.length
    if (length > this.#maxBytes) {
      this.#cut(piece, length)
      return
    }
    if (length > this.#buffer.length) {
      const grown = Buffer.alloc(Math.min(this.#maxBytes, Math.max(length, this.#buffer.length * 2)))
      this.#buffer.copy(grown, 0, 0, this.#length)
      this.#buffer = grown
    }
    piece.copy(this.#buffer, this.#length)
    this.#length = length
  }

  /** The line has become too long: its start is kept, everything else of it is only counted. */
  #cut(piece: Buffer, length: number): void {
    const missing = Math.max(0, this.#keptBytes - this.#length)
    const start = Buffer.concat([this.#buffer.subarray(0, this.#length), piece.subarray(0, missing)])
    this.#buffer = Buffer.from(start.subarray(0, this.#keptBytes))
    this.#length = this.#buffer.length
    this.#dropped = length - this.#length
  }

  #finish(): Line {
    const line = { bytes: this.#buffer.subarray(0, this.#length), dropped: this.#dropped }
    this.#buffer = Buffer.alloc(0)
    this.#length = 0
    this.#dropped = 0
    return line
  }
}
