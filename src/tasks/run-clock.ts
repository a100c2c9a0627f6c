/** A run's own time: it stands still while the task can't go on for reasons that are not its own. */
export class RunClock implements Disposable {
  readonly #timers = new Set<RunTimer>()
  #isStopped = false

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
    this.#isStopped = true
    for (const timer of this.#timers) timer.stop()
  }

  go(): void {
    if (!this.#isStopped) return
    this.#isStopped = false
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
