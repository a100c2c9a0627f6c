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
  /** By the clock that only runs: a machine is kept for as long as was promised, whatever becomes of the other. */
  endsMs: number
  idle: NodeJS.Timeout | undefined
  end: NodeJS.Timeout | undefined
}

/**
 * Machines that are kept after their task: suspends those that nobody uses, and destroys them when their time is over. Knows
 * who uses a machine, kept or not: whatever began while its task ran may go on when it is kept.
 */
export class Keeper implements Disposable {
  readonly #options: KeeperOptions
  readonly #kept = new Map<string, Kept>()
  readonly #uses = new Map<string, number>()

  constructor(options: KeeperOptions) {
    this.#options = options
  }

  keep(id: string, until: Date): void {
    this.release(id)
    const endsMs = performance.now() + until.getTime() - Date.now()
    this.#kept.set(id, { endsMs, idle: undefined, end: undefined })
    this.#awaitEnd(id)
    this.#awaitIdle(id)
  }

  /** The machine is not kept any more: it has another use, or is gone. */
  release(id: string): void {
    const kept = this.#kept.get(id)
    clearTimeout(kept?.idle)
    clearTimeout(kept?.end)
    this.#kept.delete(id)
  }

  /** Somebody uses the machine until the answer is disposed of. */
  use(id: string): Disposable {
    this.#uses.set(id, (this.#uses.get(id) ?? 0) + 1)
    clearTimeout(this.#kept.get(id)?.idle)
    const used = new DisposableStack()
    used.defer(() => {
      const left = (this.#uses.get(id) ?? 1) - 1
      if (left > 0) this.#uses.set(id, left)
      else this.#uses.delete(id)
      this.#awaitIdle(id)
    })
    return used
  }

  isUsed(id: string): boolean {
    return this.#uses.has(id)
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
    const { idleMs, suspend } = this.#options
    if (kept === undefined || this.isUsed(id) || idleMs === 0) return
    clearTimeout(kept.idle)
    const onIdle = async () => {
      // What can't be suspended now, e.g. for want of disk, may be later.
      if (!(await this.#attempt(id, suspend))) this.#awaitIdle(id)
    }
    kept.idle = setTimeout(() => void onIdle(), idleMs).unref()
  }

  #awaitEnd(id: string): void {
    const kept = this.#kept.get(id)
    if (kept === undefined) return
    const left = kept.endsMs - performance.now()
    const { destroy } = this.#options
    const next = left > MAX_TIMER_MS ? () => this.#awaitEnd(id) : () => void this.#attempt(id, destroy)
    kept.end = setTimeout(next, Math.max(0, Math.min(left, MAX_TIMER_MS))).unref()
  }

  /** Whether it succeeded. */
  async #attempt(id: string, action: (id: string) => Promise<void>): Promise<boolean> {
    try {
      await action(id)
      return true
    } catch (err) {
      this.#options.log.warn({ err, machineId: id }, 'a kept machine could not be suspended or removed')
      return false
    }
  }
}
