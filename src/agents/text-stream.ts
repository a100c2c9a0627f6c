/** Turns the bytes of a stream into text; a character that two reads cut in two comes whole with the second. */
export class TextStream {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  #rest = Buffer.alloc(0)

  /** Bytes of a character that is not complete yet: three at most. */
  get pending(): number {
    return this.#rest.length
  }

  push(data: Buffer): string {
    const bytes = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data])
    const whole = bytes.length - incompleteTail(bytes)
    this.#rest = Buffer.from(bytes.subarray(whole))
    return this.#decoder.decode(bytes.subarray(0, whole))
  }

  /** What was left of a character that never became complete. */
  end(): string {
    const text = this.#decoder.decode(this.#rest)
    this.#rest = Buffer.alloc(0)
    return text
  }
}

/** How many bytes at the end are the beginning of a character that may still become complete. */
function incompleteTail(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0
    if (byte < 0x80) return 0
    if (byte < 0xc0) continue // in the middle of a character
    const length = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4
    return length > back ? back : 0
  }
  return 0
}
