import { addTokens, NO_TOKENS, type TokenUsage } from '../contracts/usage.ts'
import type { Database } from '../store/database.ts'
import type { Logger } from '../telemetry/types.ts'
import type { Meter } from './meter.ts'
import type { EgressContext, EgressSession, ModelUsage } from './types.ts'

/** What one machine has spent on the model. */
export class Ledger {
  readonly #context: EgressContext
  readonly #database: Database
  readonly #log: Logger
  /** Answers on their way, which already cost what they have counted. */
  readonly #open = new Set<Meter>()
  readonly #writes = new Set<Promise<void>>()
  #tokens: TokenUsage = NO_TOKENS
  #costUsd = 0
  #chargedUsd = 0
  #requests = 0
  #overBudget = false

  constructor(context: EgressContext, database: Database, log: Logger) {
    this.#context = context
    this.#database = database
    this.#log = log
  }

  /** Whether the budget is spent, so that the next request must be refused. */
  refusesMore(): boolean {
    const max = this.#context.maxCostUsd
    if (max === undefined) return false
    const charged = this.#open.values().reduce((sum, meter) => sum + meter.chargeUsd(), this.#chargedUsd)
    if (charged >= max) this.#overBudget = true
    return charged >= max
  }

  begin(meter: Meter): void {
    this.#open.add(meter)
  }

  /** The answer has ended, whole or not: it is counted, reported and stored. */
  finish(meter: Meter): void {
    if (!this.#open.delete(meter)) return
    const usage = meter.usage()
    this.#tokens = addTokens(this.#tokens, usage)
    this.#costUsd += usage.costUsd ?? 0
    this.#chargedUsd += meter.chargeUsd()
    this.#requests += 1
    this.#context.onUsage?.(usage)
    const write = this.#store(usage).finally(() => this.#writes.delete(write))
    this.#writes.add(write)
  }

  totals(): ReturnType<EgressSession['totals']> {
    return { usage: this.#tokens, costUsd: this.#costUsd, requests: this.#requests, overBudget: this.#overBudget }
  }

  /** Resolves when everything counted so far is stored. */
  async settled(): Promise<void> {
    await Promise.all(this.#writes)
  }

  async #store({ complete, ...usage }: ModelUsage): Promise<void> {
    const { userId, taskId, machineId } = this.#context
    const at = new Date().toISOString()
    try {
      await this.#database
        .insertInto('usageRecords')
        .values({ userId, taskId, machineId, at, ...usage, complete: complete ? 1 : 0 })
        .execute()
    } catch (error) {
      // The task's own total is not lost with it, and failing the task would not bring the record back.
      this.#log.error(
        { err: error, taskId, model: usage.model, costUsd: usage.costUsd },
        'A usage record was not stored',
      )
    }
  }
}
