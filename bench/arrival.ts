/** How something came in, in pieces: bytes, or events. */
export class Arrival {
  total = 0
  #firstAt = 0
  #lastAt = 0
  #firstSize = 0

  /** A piece is here. */
  add(size: number): void {
    this.#lastAt = performance.now()
    if (this.total === 0) {
      this.#firstAt = this.#lastAt
      this.#firstSize = size
    }
    this.total += size
  }

  /** How much a second came, from the first piece to the last: what came with the first was on its way before the clock started. */
  perSecond(): number {
    return ((this.total - this.#firstSize) / (this.#lastAt - this.#firstAt)) * 1000
  }
}
