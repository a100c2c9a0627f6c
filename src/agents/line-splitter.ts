/** Longest line that is taken as one; Claude Code prints an image twice in its line. */
const MAX_LINE_BYTES = 32 * 1024 * 1024

/** How much of a longer line is kept. */
const KEPT_BYTES = 1024 * 1024

/** A line without its newline; `isCut`: it went on, and the rest of it is left out. */
export interface Line {
  bytes: Buffer
  isCut: boolean
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
  /** What comes belongs to a line that was cut. */
  #isCut: boolean

  /** `isCut`: the stream begins within a line whose beginning was cut off before. */
  constructor(isCut = false, maxBytes = MAX_LINE_BYTES, keptBytes = KEPT_BYTES) {
    this.#isCut = isCut
    this.#maxBytes = maxBytes
    this.#keptBytes = keptBytes
  }

  /** Bytes of a line that has begun and is neither complete nor cut. */
  get pending(): number {
    return this.#length
  }

  get isCut(): boolean {
    return this.#isCut
  }

  /** The lines that `chunk` completes, or makes too long. */
  push(chunk: Buffer): Line[] {
    const lines: Line[] = []
    let start = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      lines.push(...this.#take(chunk.subarray(start, end)))
      if (!this.#isCut) lines.push(this.#finish())
      this.#isCut = false
      start = end + 1
    }
    lines.push(...this.#take(chunk.subarray(start)))
    return lines
  }

  /** Gives up waiting for the end of the line that has begun. */
  cut(): Line[] {
    if (this.#length === 0) return []
    this.#isCut = true
    const { bytes } = this.#finish()
    return [{ bytes: Buffer.from(bytes.subarray(0, this.#keptBytes)), isCut: true }]
  }

  /** What was left without a newline. */
  end(): Line[] {
    return this.#length === 0 ? [] : [this.#finish()]
  }

  /** Adds to the line; one that becomes too long is cut at once, so that nobody has to keep what it is made of. */
  #take(piece: Buffer): Line[] {
    if (this.#isCut) return []
    const length = this.#length + piece.length
    if (length > this.#maxBytes) {
      this.#append(piece.subarray(0, Math.max(0, this.#keptBytes - this.#length)))
      return this.cut()
    }
    this.#append(piece)
    return []
  }

  #append(piece: Buffer): void {
    const length = this.#length + piece.length
    if (length > this.#buffer.length) {
      const grown = Buffer.alloc(Math.min(this.#maxBytes, Math.max(length, this.#buffer.length * 2)))
      this.#buffer.copy(grown, 0, 0, this.#length)
      this.#buffer = grown
    }
    piece.copy(this.#buffer, this.#length)
    this.#length = length
  }

  #finish(): Line {
    const line = { bytes: this.#buffer.subarray(0, this.#length), isCut: false }
    this.#buffer = Buffer.alloc(0)
    this.#length = 0
    return line
  }
}
