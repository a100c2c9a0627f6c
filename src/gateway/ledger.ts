import { addTokens, NO_TOKENS, type TokenUsage } from '../contracts/usage.ts'
import type { Database } from '../store/database.ts'
import type { Logger } from '../telemetry/types.ts'
import type { Attribution } from './attribution.ts'
import type { Budgets, Payer, Refusal } from './budgets.ts'
import type { Charge } from './charge.ts'
import type { EgressContext, EgressSession, ModelUsage } from './types.ts'
import type { UsageRecords } from './usage-records.ts'

/** What one machine's task has spent on the model. */
export class Ledger {
  readonly #context: EgressContext
  readonly #database: Database
  readonly #records: UsageRecords
  readonly #budgets: Budgets
  readonly #log: Logger
  readonly #now: () => Date
  readonly #payer: Payer & { userName: string }
  readonly #writes = new Set<Promise<void>>()
  #loaded: Promise<void> | undefined
  #tokens: TokenUsage = NO_TOKENS
  #costUsd = 0
  #chargedUsd = 0
  #requests = 0
  #overBudgetReason: string | undefined

  constructor(
    context: EgressContext,
    parts: { database: Database; records: UsageRecords; budgets: Budgets; log: Logger; now: () => Date },
  ) {
    this.#context = context
    this.#database = parts.database
    this.#records = parts.records
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
    if (refusal !== undefined) this.#overBudgetReason = refusal.reason
    return refusal
  }

  /** More is known of what a request will cost. */
  update(): void {
    this.#budgets.update()
  }

  /** A request has ended, answered or not: what it cost is counted, reported and stored. */
  finish(charge: Charge, attribution: Attribution): void {
    const at = this.#now()
    const usage = charge.usage()
    const chargeUsd = usage === undefined ? 0 : charge.chargeUsd()
    this.#chargedUsd += chargeUsd
    const overBudgetUsd = this.#budgets.end(charge, chargeUsd, at)
    if (usage === undefined) return
    this.#tokens = addTokens(this.#tokens, usage)
    this.#costUsd += usage.costUsd ?? 0
    this.#requests += 1
    if (overBudgetUsd > 0) this.#log.warn({ overBudgetUsd, model: usage.model }, 'A budget is overspent')
    this.#context.onUsage?.(overBudgetUsd > 0 ? { ...usage, overBudgetUsd } : usage)
    const write = this.#store(usage, { ...attribution, chargeUsd, at }).finally(() => this.#writes.delete(write))
    this.#writes.add(write)
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
    await Promise.all(this.#writes)
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

  async #store(usage: ModelUsage, more: Attribution & { chargeUsd: number; at: Date }): Promise<void> {
    const { userId, taskId, machineId } = this.#context
    const { model, costUsd, status, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens } = usage
    const tokens = { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens }
    const { sessionId, agentId, chargeUsd } = more
    try {
      await this.#records.add({
        userId,
        taskId,
        machineId,
        sessionId,
        agentId,
        at: more.at.toISOString(),
        model,
        ...tokens,
        costUsd,
        chargeUsd,
        status,
        complete: usage.complete ? 1 : 0,
      })
    } catch (error) {
      // The task's own total is not lost with it, and failing the task would not bring the record back.
      this.#log.error({ err: error, taskId, model, costUsd }, 'A usage record was not stored')
    }
  }
}
