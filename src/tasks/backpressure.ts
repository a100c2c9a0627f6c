import { VivariumError } from '../contracts/errors.ts'

/** A user's waiting tasks may be so many times the places that are left. */
const SHARE_OF_FREE = 4

export interface BackpressureOptions {
  maxQueued: number
  /** How many tasks wait, of all users and of one. */
  queued: (userId: string) => { all: number; ofUser: number }
  /** When somebody who is refused may come again. */
  retryAfterSeconds: () => number
}

/**
 * The way into the queue, which is bounded, and which no user may fill. The more it fills, the less of it each may have (dynamic
 * thresholds, Choudhury and Hahne 1998): a user alone four fifths, and whoever comes later finds places left.
 */
export class Backpressure {
  readonly #options: BackpressureOptions
  /** On their way into the queue, by user. */
  readonly #arriving = new Map<string, number>()

  constructor(options: BackpressureOptions) {
    this.#options = options
  }

  /** Takes places for tasks, until they are in the queue or come to nothing. Throws `queue_full` where there are none. */
  enter(userId: string, count: number): Disposable {
    const queued = this.#options.queued(userId)
    const ofUser = queued.ofUser + (this.#arriving.get(userId) ?? 0)
    const all = this.#arriving.values().reduce((sum, more) => sum + more, queued.all)
    this.#refuseIfFull(count, all, ofUser)
    this.#add(userId, count)
    return { [Symbol.dispose]: () => this.#add(userId, -count) }
  }

  #refuseIfFull(count: number, all: number, ofUser: number): void {
    const { maxQueued, retryAfterSeconds } = this.#options
    const left = maxQueued - all - count
    // The last one of them still sees the place that it takes.
    if (left >= 0 && ofUser + count - 1 < SHARE_OF_FREE * (left + 1)) return
    const seconds = retryAfterSeconds()
    const why =
      left < 0
        ? `At most ${maxQueued} tasks can wait (tasks.maxQueued).`
        : `${ofUser} of your tasks wait already; of ${maxQueued} places (tasks.maxQueued) the last ones are for others.`
    throw new VivariumError('queue_full', `${why} Try again in ${seconds} s, when some have been started.`, {
      retryAfterSeconds: seconds,
    })
  }

  #add(userId: string, count: number): void {
    const now = (this.#arriving.get(userId) ?? 0) + count
    if (now === 0) this.#arriving.delete(userId)
    else this.#arriving.set(userId, now)
  }
}
