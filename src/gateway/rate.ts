/**
 * A rate with a burst, by the generic cell rate algorithm: keeps one number, the time at which everything taken so far is paid
 * off. A rate of 0 is no limit.
 */
export class Rate {
  readonly #perMs: number
  readonly #burstMs: number
  readonly #now: () => number
  #paidAt = -Infinity

  /** So many units a second, and what `burstSeconds` make of them at once. */
  constructor(perSecond: number, burstSeconds: number, now: () => number = () => performance.now()) {
    this.#perMs = perSecond / 1000
    this.#burstMs = burstSeconds * 1000
    this.#now = now
  }

  get isLimited(): boolean {
    return this.#perMs > 0
  }

  /** Takes units whatever there is; returns the ms to wait before using them. */
  take(units: number): number {
    if (this.#perMs === 0) return 0
    const now = this.#now()
    this.#paidAt = Math.max(this.#paidAt, now) + units / this.#perMs
    return Math.max(0, this.#paidAt - now - this.#burstMs)
  }

  /** Takes a unit if it need not be waited for. */
  tryTake(): boolean {
    const before = this.#paidAt
    if (this.take(1) === 0) return true
    this.#paidAt = before
    return false
  }
}
