/** A key or value that is looked for is short; longer ones are passed over without being kept. */
const MAX_KEPT_BYTES = 256

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN = new Set([0x7b, 0x5b])
const CLOSE = new Set([0x7d, 0x5d])
const BLANK = new Set([0x20, 0x09, 0x0a, 0x0d])

/** What a model request says of itself, as far as that has passed by. */
export interface RequestFacts {
  model: string
  /** Most output tokens it may be answered with; undefined where it names none. */
  maxTokens: number | undefined
  stream: boolean
  /** Bytes of its body. */
  bytes: number
}

/**
 * Reads `model`, `max_tokens` and `stream` out of a request's JSON body while its bytes pass by, without keeping or parsing the
 * rest: bodies are megabytes of conversation. Only fields of the outermost object count, of a repeated one the last, as in
 * `JSON.parse`. Never throws: of what is not JSON nothing is learned, and the API refuses it.
 */
export class RequestReader {
  #model = 'unknown'
  #maxTokens: number | undefined
  #stream = false
  #bytes = 0
  #depth = 0
  #inString = false
  #escaped = false
  /** The token being read in the outermost object: a key, or a value that is no object. */
  #kept: number[] = []
  #key = ''

  facts(): RequestFacts {
    return { model: this.#model, maxTokens: this.#maxTokens, stream: this.#stream, bytes: this.#bytes }
  }

  push(chunk: Buffer): void {
    this.#bytes += chunk.length
    for (let at = 0; at < chunk.length; at++) {
      // Nearly all bytes are text inside of inner strings.
      if (this.#inString && this.#depth > 1 && !this.#escaped) {
        at = nextOf(chunk, at)
        if (at === chunk.length) return
      }
      this.#take(chunk[at] ?? 0)
    }
  }

  #take(byte: number): void {
    if (this.#inString) {
      this.#keep(byte)
      if (this.#escaped) this.#escaped = false
      else if (byte === BACKSLASH) this.#escaped = true
      else if (byte === QUOTE) this.#inString = false
    } else if (byte === QUOTE) {
      this.#keep(byte)
      this.#inString = true
    } else if (OPEN.has(byte)) {
      this.#depth += 1
    } else if (CLOSE.has(byte)) {
      if (this.#depth === 1) this.#field()
      this.#depth -= 1
    } else if (this.#depth === 1 && byte === COLON) {
      this.#key = String(this.#token())
    } else if (this.#depth === 1 && byte === COMMA) {
      this.#field()
    } else if (!BLANK.has(byte)) {
      this.#keep(byte)
    }
  }

  #keep(byte: number): void {
    if (this.#depth === 1 && this.#kept.length <= MAX_KEPT_BYTES) this.#kept.push(byte)
  }

  /** What has been kept, as a value; undefined where it is none. */
  #token(): unknown {
    const bytes = this.#kept
    this.#kept = []
    if (bytes.length === 0 || bytes.length > MAX_KEPT_BYTES) return undefined
    const text = Buffer.from(bytes).toString()
    try {
      return JSON.parse(text)
    } catch {
      // Not JSON.
      return undefined
    }
  }

  #field(): void {
    const value = this.#token()
    if (this.#key === 'model' && typeof value === 'string') this.#model = value
    if (this.#key === 'max_tokens' && typeof value === 'number' && value > 0) this.#maxTokens = value
    if (this.#key === 'stream') this.#stream = value === true
    this.#key = ''
  }
}

/** Index of the next quote or backslash from `from` on, or the chunk's length. */
function nextOf(chunk: Buffer, from: number): number {
  for (let at = from; at < chunk.length; at++) {
    const byte = chunk[at]
    if (byte === QUOTE || byte === BACKSLASH) return at
  }
  return chunk.length
}
