/** A run's own time: it stands still while the task can't go on for reasons that are not its own. */
export class RunClock implements Disposable {
  readonly #timers = new Set<RunTimer>()
  #isStopped = false
  /** Until the last stop or start … */
  #ranMs = 0
  /** … which was then. */
  #since = performance.now()

  /** How long the run lasts so far, without the time in which it stood still; and whether it does now. */
  get reading(): { ranMs: number; isStopped: boolean } {
    const ranMs = this.#ranMs + (this.#isStopped ? 0 : performance.now() - this.#since)
    return { ranMs, isStopped: this.#isStopped }
  }

  /** The run begins now, or began so long ago. */
  begin(ranMs = 0): void {
    this.#ranMs = ranMs
    this.#since = performance.now()
  }

  /** Calls `action` after `ms` of the run's time, unless disposed of before. */
  timer(ms: number, action: () => void): Disposable {
    const timer = new RunTimer(ms, () => {
      this.#timers.delete(timer)
      action()
    })
    this.#timers.add(timer)
    if (!this.#isStopped) timer.go()
    return {
      [Symbol.dispose]: () => {
        timer.stop()
        this.#timers.delete(timer)
      },
    }
  }

  /** Aborts after `ms` of the run's time. */
  deadline(ms: number): AbortSignal {
    const over = new AbortController()
    this.timer(ms, () => over.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError')))
    return over.signal
  }

  stop(): void {
    if (this.#isStopped) return
    this.#ranMs = this.reading.ranMs
    this.#isStopped = true
    for (const timer of this.#timers) timer.stop()
  }

  go(): void {
    if (!this.#isStopped) return
    this.#isStopped = false
    this.#since = performance.now()
    for (const timer of this.#timers) timer.go()
  }

  /** Nothing that was set comes any more. */
  [Symbol.dispose](): void {
    for (const timer of this.#timers) timer.stop()
    this.#timers.clear()
  }
}

class RunTimer {
  readonly #action: () => void
  #leftMs: number
  #since = 0
  #timeout: NodeJS.Timeout | undefined

  constructor(ms: number, action: () => void) {
    this.#leftMs = ms
    this.#action = action
  }

  go(): void {
    this.#since = performance.now()
    this.#timeout = setTimeout(this.#action, this.#leftMs)
  }

  stop(): void {
    if (this.#timeout === undefined) return
    clearTimeout(this.#timeout)
    this.#timeout = undefined
    this.#leftMs = Math.max(0, this.#leftMs - (performance.now() - this.#since))
  }
}
