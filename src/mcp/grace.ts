/**
 * Tasks whose caller's connection went away without a word. A client that reconnects may take one over within the grace
 * period; after it the task is cancelled, since nobody will ever ask for its result.
 */
export class Grace {
  readonly #timers = new Map<string, NodeJS.Timeout>()
  readonly #periodMs: number
  #closed = false

  constructor(periodMs: number) {
    this.#periodMs = periodMs
  }

  /** Starts the period of a task; `cancel` is called at its end and must not reject. */
  begin(taskId: string, cancel: () => Promise<void>): void {
    this.takeOver(taskId)
    if (this.#closed) return
    const timer = setTimeout(() => {
      this.#timers.delete(taskId)
      void cancel()
    }, this.#periodMs)
    // A process that has nothing else to do need not stay for this.
    timer.unref()
    this.#timers.set(taskId, timer)
  }

  /** Ends the period of a task, which then goes on; returns whether there was one. */
  takeOver(taskId: string): boolean {
    clearTimeout(this.#timers.get(taskId))
    return this.#timers.delete(taskId)
  }

  /** Forgets all periods, and those to come: their tasks go on. */
  close(): void {
    this.#closed = true
    for (const timer of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
  }
}
