const REMEMBERED = 20
const LEAST_SECONDS = 1
const MOST_SECONDS = 120
/** Where nothing has ended yet that could tell. */
const UNKNOWN_SECONDS = 10

/** How fast tasks go by, from the last ones that ended: what to tell somebody who is to come again when there is a place in the queue. */
export class Pace {
  readonly #durationsMs: number[] = []

  /** A task has run for so long. */
  ran(ms: number): void {
    this.#durationsMs.push(ms)
    if (this.#durationsMs.length > REMEMBERED) this.#durationsMs.shift()
  }

  /** Seconds until one of so many running tasks is likely to end, within bounds. */
  untilNextEnd(running: number): number {
    const { length } = this.#durationsMs
    if (length === 0 || running === 0) return UNKNOWN_SECONDS
    const meanMs = this.#durationsMs.reduce((sum, ms) => sum + ms, 0) / length
    return Math.min(MOST_SECONDS, Math.max(LEAST_SECONDS, Math.ceil(meanMs / running / 1000)))
  }
}
