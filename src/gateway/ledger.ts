import { addTokens, NO_TOKENS, type TokenUsage } from '../contracts/usage.ts'
import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import type { Logger } from '../telemetry/types.ts'
import type { Budgets, Payer, Refusal } from './budgets.ts'
import type { Charge } from './charge.ts'
import type { Journal, Progress } from './journal.ts'
import type { EgressContext, EgressSession, ModelUsage } from './types.ts'
import { recordOf } from './usage-records.ts'

export interface LedgerParts {
  database: Database
  journal: Journal
  /** Resolves when what was left in the journal is counted. */
  settle: () => Promise<void>
  budgets: Budgets
  log: Logger
  now: () => Date
}

/** What one machine's task has spent on the model. */
export class Ledger {
  readonly #context: EgressContext
  readonly #database: Database
  readonly #journal: Journal
  readonly #settle: () => Promise<void>
  readonly #budgets: Budgets
  readonly #log: Logger
  readonly #now: () => Date
  readonly #payer: Payer & { userName: string }
  readonly #open = new Set<Charge>()
  readonly #writes = new Map<Charge, Promise<void>>()
  #loaded: Promise<void> | undefined
  #tokens: TokenUsage = NO_TOKENS
  #costUsd = 0
  #chargedUsd = 0
  #requests = 0
  #overBudgetReason: string | undefined

  constructor(context: EgressContext, parts: LedgerParts) {
    this.#context = context
    this.#database = parts.database
    this.#journal = parts.journal
    this.#settle = parts.settle
    this.#budgets = parts.budgets
    this.#log = parts.log
    this.#now = parts.now
    const { userId, maxCostUsd } = context
    this.#payer = { userId, userName: userId, maxCostUsd, chargedUsd: () => this.#chargedUsd }
  }

  /** Resolves when a request may start, and is then to be ended by `finish`; or with the reason why it may not. Rejects with `signal`. */
  async admit(charge: Charge, signal: AbortSignal): Promise<Refusal | undefined> {
    await this.#load()
    const refusal = await this.#budgets.admit(charge, this.#payer, signal)
    this.#overBudgetReason = refusal?.reason
    if (refusal === undefined) this.#open.add(charge)
    return refusal
  }

  /** All of a request is known. Resolves when it is written down: to be awaited before all of it is sent. Rejects with `storage_failed`. */
  async begin(charge: Charge): Promise<void> {
    // An upstream may answer before it has read all, and that answer be over already.
    if (!this.#open.has(charge)) throw new Error('The request has ended.')
    this.#budgets.update()
    const { id, attribution, startedAt } = charge
    const { userId, taskId, machineId } = this.#context
    const { bytes, maxTokens } = charge.reader.facts()
    await this.#journal.begin({
      id,
      userId,
      taskId,
      machineId,
      ...attribution,
      startedAt: startedAt.toISOString(),
      requestBytes: bytes,
      maxTokens: maxTokens === undefined ? null : Math.min(Math.ceil(maxTokens), Number.MAX_SAFE_INTEGER),
      ...progressOf(charge),
    })
    crashPoint('model request journaled')
  }

  /** More has been seen of a request's answer. */
  note(charge: Charge): void {
    this.#journal.note(charge.id, () => progressOf(charge))
  }

  /**
   * A request has ended, answered or not: what it cost is counted at once, then stored, then reported. Resolves when that is done, however
   * often it is called. Never rejects.
   */
  finish(charge: Charge): Promise<void> {
    if (!this.#open.delete(charge)) return this.#writes.get(charge) ?? Promise.resolve()
    const at = this.#now()
    const usage = charge.usage()
    const chargedUsd = usage?.chargedUsd ?? 0
    this.#chargedUsd += chargedUsd
    const overBudgetUsd = this.#budgets.end(charge, chargedUsd, at)
    if (usage !== undefined) {
      this.#tokens = addTokens(this.#tokens, usage)
      this.#costUsd += usage.costUsd ?? 0
      this.#requests += 1
      if (overBudgetUsd > 0) this.#log.warn({ overBudgetUsd, model: usage.model }, 'A budget is overspent')
    }
    const counted = usage !== undefined && overBudgetUsd > 0 ? { ...usage, overBudgetUsd } : usage
    const write = this.#store(charge, counted, at).finally(() => this.#writes.delete(charge))
    this.#writes.set(charge, write)
    return write
  }

  totals(): ReturnType<EgressSession['totals']> {
    const reason = this.#overBudgetReason
    return {
      usage: this.#tokens,
      costUsd: this.#costUsd,
      requests: this.#requests,
      overBudget: reason !== undefined,
      ...(reason === undefined ? {} : { overBudgetReason: reason }),
    }
  }

  /** Resolves when everything counted so far is stored. */
  async settled(): Promise<void> {
    // Without it the totals would lack what earlier machines of the task have spent.
    await this.#load().catch((error: unknown) => this.#log.error({ err: error }, 'Earlier usage could not be read'))
    await Promise.all(this.#writes.values())
  }

  /** Reads who pays, and what the task has spent on earlier machines. Once; after a failure the next call tries again. */
  #load(): Promise<void> {
    this.#loaded ??= this.#read().catch((error: unknown) => {
      this.#loaded = undefined
      throw error
    })
    return this.#loaded
  }

  async #read(): Promise<void> {
    await this.#settle()
    await storing("What was spent so far can't be read", async () => {
      await this.#readSums()
      await this.#budgets.load()
    })
    // Of requests that were refused nothing is stored. Where a budget is spent, the task's next one was refused, or would have been.
    if (this.#requests > 0) this.#overBudgetReason = this.#budgets.refusal(this.#payer)?.reason
  }

  async #readSums(): Promise<void> {
    const { userId, taskId } = this.#context
    const user = await this.#database.selectFrom('users').select('name').where('id', '=', userId).executeTakeFirst()
    if (user !== undefined) this.#payer.userName = user.name
    if (taskId === null) return
    const sums = await this.#database
      .selectFrom('usageRecords')
      .select(({ fn }) => [
        fn.sum('inputTokens').as('inputTokens'),
        fn.sum('outputTokens').as('outputTokens'),
        fn.sum('cacheReadTokens').as('cacheReadTokens'),
        fn.sum('cacheWriteTokens').as('cacheWriteTokens'),
        fn.sum('costUsd').as('costUsd'),
        fn.sum('chargeUsd').as('chargeUsd'),
        fn.countAll().as('requests'),
      ])
      .where('taskId', '=', taskId)
      .executeTakeFirstOrThrow()
    this.#tokens = {
      inputTokens: Number(sums.inputTokens ?? 0),
      outputTokens: Number(sums.outputTokens ?? 0),
      cacheReadTokens: Number(sums.cacheReadTokens ?? 0),
      cacheWriteTokens: Number(sums.cacheWriteTokens ?? 0),
    }
    this.#costUsd = Number(sums.costUsd ?? 0)
    this.#chargedUsd = Number(sums.chargeUsd ?? 0)
    this.#requests = Number(sums.requests)
  }

  async #store({ id, attribution }: Charge, usage: ModelUsage | undefined, at: Date): Promise<void> {
    try {
      await this.#journal.end(id, usage && recordOf(usage, { ...this.#context, ...attribution, at }))
      crashPoint('model request recorded')
    } catch (error) {
      // Failing the task would not bring the record back. Whatever can be told of it is in the journal, for the next start.
      return this.#log.error({ err: error, ...usage }, 'A model request was counted, but could not be stored')
    }
    if (usage !== undefined) this.#context.onUsage?.(usage)
  }
}

function progressOf(charge: Charge): Progress {
  const { model, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, costUsd, status } = charge.seen()
  const tokens = { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens }
  return { model, ...tokens, costUsd, chargeUsd: charge.mostUsd(), status }
}
