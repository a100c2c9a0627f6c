import { PREAMBLE } from './constants.ts'

/** One line of the preamble, e.g. `VIVARIUM/1 hello 0123…`. */
export interface PreambleLine {
  verb: 'hello' | 'echo' | 'go' | 'ready'
  /** 32 hex digits, chosen by the host for each session. */
  nonce: string
}

const MARKER = Buffer.from(`${PREAMBLE} `)
const MAX_LINE_BYTES = 64
const LINE = /^(hello|echo|go|ready) ([0-9a-f]{32})$/

/** One preamble line as bytes. */
export function preambleLine(verb: PreambleLine['verb'], nonce: string): string {
  return `${PREAMBLE} ${verb} ${nonce}\n`
}

function parse(text: string): PreambleLine | undefined {
  const match = LINE.exec(text)
  const [, verb, nonce] = match ?? []
  return verb === undefined || nonce === undefined ? undefined : { verb: verb as PreambleLine['verb'], nonce }
}

/**
 * Finds preamble lines in a stream that may begin with the rest of an old session. Keeps at most one unfinished line, so
 * that garbage of any length costs no memory. Used by both ends.
 */
export class PreambleScanner {
  #rest: Buffer = Buffer.alloc(0)
  /** Bytes thrown away so far: everything that was no preamble line. */
  discarded = 0

  push(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
  }

  /** The next line, or undefined until more bytes are pushed. */
  next(): PreambleLine | undefined {
    for (;;) {
      const start = this.#rest.indexOf(MARKER)
      if (start < 0) {
        this.#skip(Math.max(0, this.#rest.length - MARKER.length + 1))
        return undefined
      }
      this.#skip(start)
      const end = this.#rest.subarray(0, MARKER.length + MAX_LINE_BYTES).indexOf(0x0a)
      if (end < 0 && this.#rest.length < MARKER.length + MAX_LINE_BYTES) return undefined
      const line = end < 0 ? undefined : parse(this.#rest.toString('latin1', MARKER.length, end))
      if (line !== undefined) {
        this.#rest = this.#rest.subarray(end + 1)
        return line
      }
      this.#skip(MARKER.length)
    }
  }

  /** What came behind the last line: the first bytes of the session. */
  rest(): Buffer {
    return this.#rest
  }

  #skip(count: number): void {
    this.discarded += count
    this.#rest = this.#rest.subarray(count)
  }
}
