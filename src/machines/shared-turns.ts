/** Steps that must not overlap, and others that may overlap with each other only: a lock for one writer or many readers. */
export class SharedTurns {
  /** The last step that is to be alone. Never rejects. */
  #alone: Promise<unknown> = Promise.resolve()
  readonly #together = new Set<Promise<unknown>>()

  /** Runs `step` when everything before it is over. */
  alone<T>(step: () => Promise<T>): Promise<T> {
    const done = this.over().then(step)
    this.#alone = done.catch(() => {}) // the caller hears of it
    return done
  }

  /** Runs `step` when no step is alone; the next that is to be alone waits for it. */
  async together<T>(step: () => Promise<T>): Promise<T> {
    for (let last: unknown; last !== this.#alone; await last) last = this.#alone
    const done = step()
    const settled = done.catch(() => {})
    this.#together.add(settled)
    void settled.then(() => this.#together.delete(settled))
    return done
  }

  /** Resolves when every step so far is over. */
  async over(): Promise<void> {
    await Promise.all([this.#alone, ...this.#together])
  }
}
