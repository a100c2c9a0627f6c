import type { Logger } from '../telemetry/types.ts'

/** Longer waits than a timer takes are waited for in parts. */
const MAX_TIMER_MS = 24 * 60 * 60_000

export interface KeeperOptions {
  /** A kept machine that nobody uses for so long is suspended; 0 never. */
  idleMs: number
  suspend: (id: string) => Promise<void>
  destroy: (id: string) => Promise<void>
  log: Logger
}

interface Kept {
  until: Date
  uses: number
  idle: NodeJS.Timeout | undefined
  end: NodeJS.Timeout | undefined
}

/** Machines that are kept after their task: suspends those that nobody uses, and destroys them when their time is over. */
export class Keeper implements Disposable {
  readonly #options: KeeperOptions
  readonly #kept = new Map<string, Kept>()

  constructor(options: KeeperOptions) {
    this.#options = options
  }

  keep(id: string, until: Date): void {
    this.release(id)
    this.#kept.set(id, { until, uses: 0, idle: undefined, end: undefined })
    this.#awaitEnd(id)
    this.#awaitIdle(id)
  }

  /** The machine has another use now, or is gone. */
  release(id: string): void {
    const kept = this.#kept.get(id)
    clearTimeout(kept?.idle)
    clearTimeout(kept?.end)
    this.#kept.delete(id)
  }

  /** Somebody uses the machine until the answer is disposed of. */
  use(id: string): Disposable {
    const kept = this.#kept.get(id)
    if (kept !== undefined) kept.uses += 1
    clearTimeout(kept?.idle)
    return {
      [Symbol.dispose]: () => {
        if (kept === undefined) return
        kept.uses -= 1
        if (this.#kept.get(id) === kept) this.#awaitIdle(id)
      },
    }
  }

  /** Somebody has used the machine just now. */
  used(id: string): void {
    this.#awaitIdle(id)
  }

  [Symbol.dispose](): void {
    for (const id of this.#kept.keys()) this.release(id)
  }

  #awaitIdle(id: string): void {
    const kept = this.#kept.get(id)
    if (kept === undefined || kept.uses > 0 || this.#options.idleMs === 0) return
    clearTimeout(kept.idle)
    kept.idle = setTimeout(() => void this.#attempt(id, this.#options.suspend), this.#options.idleMs).unref()
  }

  #awaitEnd(id: string): void {
    const kept = this.#kept.get(id)
    if (kept === undefined) return
    const left = kept.until.getTime() - Date.now()
    const next = left > MAX_TIMER_MS ? () => this.#awaitEnd(id) : () => void this.#attempt(id, this.#options.destroy)
    kept.end = setTimeout(next, Math.max(0, Math.min(left, MAX_TIMER_MS))).unref()
  }

  async #attempt(id: string, action: (id: string) => Promise<void>): Promise<void> {
    try {
      await action(id)
    } catch (err) {
      this.#options.log.warn({ err, machineId: id }, 'a kept machine could not be suspended or removed')
    }
  }
}
