import { createHash } from 'node:crypto'

/** Choices that follow from a seed: the same seed makes the same choices, on every machine. */
export class Random {
  #state: number

  constructor(...seed: (string | number)[]) {
    this.#state = createHash('sha256').update(seed.join('\0')).digest().readUInt32LE(0)
  }

  /** A whole number from 0 up to, but without, `limit`. By mulberry32, whose 2^32 states are plenty for one case. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit)
  }

  chance(probability: number): boolean {
    return this.below(1_000_000) < probability * 1_000_000
  }

  /** From `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1)
  }

  /** Small numbers mostly, large ones now and then: up to `limit`, evenly in their number of digits. */
  size(limit: number): number {
    return this.below(Math.min(limit, 2 ** this.below(Math.ceil(Math.log2(limit + 1)) + 1)) + 1)
  }

  /** One of a list that is not empty. */
  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item
  }

  list<Item>(count: number, make: () => Item): Item[] {
    return Array.from({ length: count }, make)
  }

  bytes(count: number): Buffer {
    return Buffer.from(this.list(count, () => this.below(256)))
  }

  /** Text of characters that break things: quotes, control characters, halves of pairs, other scripts. */
  text(limit: number): string {
    return this.list(this.size(limit), () => this.pick(CHARACTERS)).join('')
  }
}

const CHARACTERS = [
  ...'ab/.\\ "\'{}[]:,=%\n\r\t\0\u001b\u007f\u2028\u202e\ufeff\ud800é\udfff€\u{1f600}',
  '..',
  '\\u0000',
  '1e999',
]
