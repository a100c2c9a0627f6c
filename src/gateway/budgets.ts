import { once, EventEmitter } from 'node:events'
import { dayOf, monthOf, type Spending } from './spending.ts'

/** Dollars (UTC days and months) that may be spent; 0 is no limit. */
export interface PeriodLimits {
  dayUsd: number
  monthUsd: number
}

/** The budgets of a server, as its settings give them. */
export interface BudgetSettings {
  /** For each user, unless `users` says otherwise. */
  user: PeriodLimits
  /** By the user's name. What is left out is as in `user`. */
  users: Readonly<Record<string, { dayUsd?: number | undefined; monthUsd?: number | undefined }>>
  /** For everybody together. */
  global: PeriodLimits
}

export const NO_BUDGETS: BudgetSettings = {
  user: { dayUsd: 0, monthUsd: 0 },
  users: {},
  global: { dayUsd: 0, monthUsd: 0 },
}

/** Who pays for a request. */
export interface Payer {
  userId: string
  userName: string
  /** The task's own budget; undefined where it has none. */
  maxCostUsd: number | undefined
  /** Dollars that the task's requests have been charged so far, those under way left out. */
  chargedUsd(): number
}

/** A model request on its way. */
export interface UnderWay {
  /** Dollars that it is taken to cost: an estimate until its answer says more. */
  expectedUsd(): number
}

/** One budget that a request has to fit into. */
interface Limit {
  /** e.g. `The budget of this task`. */
  name: string
  setting: string
  limitUsd: number
  spentUsd: number
  /** What requests under way are taken to add. */
  expectedUsd: number
}

/** How a request may not start: `reason` is the sentence for agent and task. */
export interface Refusal {
  reason: string
}

/**
 * Decides which request may still start. A budget that is spent refuses. One that requests under way might use up makes the
 * next one wait for them instead: no request is refused for an estimate, and close to a limit they go one after the other. So
 * what is spent beyond a limit is at most what the requests cost that were under way when it was reached.
 */
export class Budgets {
  readonly #settings: BudgetSettings
  readonly #spending: Spending
  readonly #now: () => Date
  readonly #open = new Map<UnderWay, Payer>()
  /** Says when a request has ended, or its estimate has changed. */
  readonly #changes = new EventEmitter().setMaxListeners(0)

  constructor(settings: BudgetSettings, spending: Spending, now: () => Date) {
    this.#settings = settings
    this.#spending = spending
    this.#now = now
  }

  /** Resolves when `request` may start (it then counts as under way until `end`), or with why it may not. Rejects with `signal`. */
  async admit(request: UnderWay, payer: Payer, signal: AbortSignal): Promise<Refusal | undefined> {
    await this.load()
    for (;;) {
      signal.throwIfAborted()
      const refusal = this.refusal(payer)
      if (refusal !== undefined) return refusal
      const limits = this.#limits(payer)
      if (limits.every(({ limitUsd, spentUsd, expectedUsd }) => spentUsd + expectedUsd < limitUsd)) break
      await once(this.#changes, 'change', { signal })
    }
    this.#open.set(request, payer)
    return undefined
  }

  /** Why a request may not start now; undefined where no budget is spent. What was spent must have been read (`load`). */
  refusal(payer: Payer): Refusal | undefined {
    const spent = this.#limits(payer).find(({ limitUsd, spentUsd }) => spentUsd >= limitUsd)
    return spent && { reason: sentence(spent) }
  }

  /** Reads what was spent before this process began. Rejects when the store can't say; the next call asks again. */
  load(): Promise<void> {
    return this.#spending.load(this.#now())
  }

  /** The request's estimate has changed. */
  update(): void {
    this.#changes.emit('change')
  }

  /** The request has ended and was charged so much, at this time. Returns by how many dollars a budget is overspent now. */
  end(request: UnderWay, chargeUsd: number, at: Date): number {
    const payer = this.#open.get(request)
    this.#open.delete(request)
    if (payer === undefined) return 0
    this.#spending.add(payer.userId, chargeUsd, at)
    const over = this.#limits(payer).map(({ limitUsd, spentUsd }) => spentUsd - limitUsd)
    this.update()
    return Math.max(0, ...over)
  }

  #limits(payer: Payer): Limit[] {
    const { userId, userName, maxCostUsd } = payer
    const { user, users, global } = this.#settings
    const own = Object.hasOwn(users, userName) ? users[userName] : undefined
    const day = dayOf(this.#now())
    const month = monthOf(this.#now())
    const expected = (isCounted: (other: Payer) => boolean) => this.#expected(isCounted)
    const ofUser = (name: string, setting: keyof PeriodLimits, period: string): Limit => ({
      name: `The budget of ${userName} for ${name} (UTC)`,
      setting: own?.[setting] === undefined ? `budgets.user.${setting}` : `budgets.users.${userName}.${setting}`,
      limitUsd: own?.[setting] ?? user[setting],
      spentUsd: this.#spending.total(period, userId),
      expectedUsd: expected((other) => other.userId === userId),
    })
    const ofAll = (name: string, setting: keyof PeriodLimits, period: string): Limit => ({
      name: `This server's budget for ${name} (UTC)`,
      setting: `budgets.global.${setting}`,
      limitUsd: global[setting],
      spentUsd: this.#spending.total(period),
      expectedUsd: expected(() => true),
    })
    const ofTask: Limit = {
      name: 'The budget of this task',
      setting: 'maxCostUsd',
      limitUsd: maxCostUsd ?? 0,
      spentUsd: payer.chargedUsd(),
      expectedUsd: expected((other) => other === payer),
    }
    return [
      ofTask,
      ofUser(`the day ${day}`, 'dayUsd', day),
      ofUser(`the month ${month}`, 'monthUsd', month),
      ofAll(`the day ${day}`, 'dayUsd', day),
      ofAll(`the month ${month}`, 'monthUsd', month),
    ].filter(({ limitUsd }) => limitUsd > 0)
  }

  #expected(isCounted: (payer: Payer) => boolean): number {
    let sum = 0
    for (const [request, payer] of this.#open) if (isCounted(payer)) sum += request.expectedUsd()
    return sum
  }
}

function sentence({ name, setting, limitUsd, spentUsd }: Limit): string {
  return `${name} is spent: $${spentUsd.toFixed(4)} of $${limitUsd}. Allow more (${setting}).`
}
