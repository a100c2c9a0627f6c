import { createHash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import type { Credential } from './credentials.ts'
import type { Hold } from './rate-limit.ts'

/** A wait is looked at again so often: clocks are set, and long timers drift. */
const CHECK_MS = 30_000

/** Accounts that take no requests for now. One account is one credential, whoever's machines use it. */
export class Holds {
  readonly #holds = new Map<string, Hold>()
  /** When each is over by the clock that only runs: one that was set back must not hold an account for hours. */
  readonly #endsMs = new Map<string, number>()
  /** Emits an account's name when its hold has ended. */
  readonly #ended = new EventEmitter().setMaxListeners(0)
  readonly #now: () => Date

  constructor(now: () => Date) {
    this.#now = now
  }

  /** Holds an account; a hold that is there already is replaced, as the account knows best. */
  begin(account: string, hold: Hold): void {
    const isNew = !this.#holds.has(account)
    this.#holds.set(account, hold)
    this.#endsMs.set(account, performance.now() + hold.until.getTime() - this.#now().getTime())
    if (isNew) this.#watch(account)
  }

  get isEmpty(): boolean {
    return this.#holds.size === 0
  }

  find(account: string): Hold | undefined {
    const hold = this.#holds.get(account)
    if (hold === undefined) return undefined
    if (hold.until > this.#now() && performance.now() < (this.#endsMs.get(account) ?? 0)) return hold
    this.#holds.delete(account)
    this.#ended.emit(account)
    return undefined
  }

  /** Resolves when the account is not held, rejects with `signal`. */
  async ended(account: string, signal: AbortSignal): Promise<void> {
    while (this.find(account) !== undefined) await once(this.#ended, account, { signal })
  }

  /** Nothing waits for this timer alone: it does not keep the process alive. */
  #watch(account: string): void {
    const hold = this.find(account)
    if (hold === undefined) return
    const leftMs = hold.until.getTime() - this.#now().getTime()
    setTimeout(() => this.#watch(account), Math.max(0, Math.min(leftMs, CHECK_MS))).unref()
  }
}

/** The name of the account behind a credential: tells accounts apart without keeping what opens them. */
function accountOf(credential: Credential): string {
  return createHash('sha256').update(credential.secret).digest('hex')
}

/** One machine's part in the holds of accounts: makes its requests wait, and says so once for each hold. */
export class HeldMachine {
  readonly #holds: Holds
  readonly #onHeld: ((hold: Hold | null) => void) | undefined
  readonly #closed: AbortSignal
  #told: { account: string; hold: Hold } | undefined

  constructor(holds: Holds, onHeld: ((hold: Hold | null) => void) | undefined, closed: AbortSignal) {
    this.#holds = holds
    this.#onHeld = onHeld
    this.#closed = closed
  }

  /** A request of this machine was answered that its account takes no more until `hold` ends. */
  meet(credential: Credential, hold: Hold): void {
    const account = accountOf(credential)
    this.#holds.begin(account, hold)
    this.#tell(account, hold)
  }

  /** Whether requests with this credential have to wait. If so, resolves when they may go on; rejects with `signal`. */
  async wait(credential: Credential, signal: AbortSignal): Promise<boolean> {
    if (this.#holds.isEmpty && this.#told === undefined) return false
    const account = accountOf(credential)
    const hold = this.#holds.find(account)
    if (hold === undefined) {
      // With another credential than before, perhaps.
      this.#tellEnd()
      return false
    }
    this.#tell(account, hold)
    await this.#holds.ended(account, signal)
    return true
  }

  #tell(account: string, hold: Hold): void {
    const told = this.#told
    if (told?.account === account && told.hold.until.getTime() === hold.until.getTime()) return
    this.#told = { account, hold }
    this.#onHeld?.(hold)
    // Its end is said also when no request waits for it any more: the machine may sleep until then.
    if (told?.account !== account) void this.#watch(account)
  }

  #tellEnd(): void {
    if (this.#told === undefined) return
    this.#told = undefined
    this.#onHeld?.(null)
  }

  async #watch(account: string): Promise<void> {
    try {
      await this.#holds.ended(account, this.#closed)
      if (this.#told?.account === account) this.#tellEnd()
    } catch {
      // The machine is gone, and with it whoever would hear of it.
    }
  }
}
