import type { Duplex } from 'node:stream'
import type { NetworkPolicy } from '../contracts/network.ts'
import type { TokenUsage, UsageGrouping, UsageRow } from '../contracts/usage.ts'

/** What an answer of the model has used. `costUsd` is null where the model has no known price. */
export interface AnswerUsage extends TokenUsage {
  model: string
  costUsd: number | null
  /** False when the answer was cut off (the tokens seen so far are counted) or never came (they are estimated, at the upper bound). */
  complete: boolean
  /** HTTP status of the answer; 0 where none came. */
  status: number
}

/** One model request, counted. */
export interface ModelUsage extends AnswerUsage {
  /** Counted once, and stored under this id. */
  requestId: string
  /** What budgets are charged: more than the cost where that is not known, or nobody saw the answer's end. */
  chargedUsd: number
  /** How far a budget is overspent with this, in dollars; absent where none is. */
  overBudgetUsd?: number
}

export interface EgressDecision {
  host: string
  port: number
  allowed: boolean
  /** e.g. `allow registry.example`, `deny by default`. */
  rule: string
  bytesOut?: number
  bytesIn?: number
}

/** Whose machine this is and what it may do. */
export interface EgressContext {
  machineId: string
  userId: string
  taskId: string | null
  /** The narrowest level of rules: added to what the settings allow, or with `none` in place of it. */
  policy: NetworkPolicy | undefined
  /** The agent can do nothing without the model: it may be asked whatever the rules say. */
  needsModel?: boolean
  /** Refuse the next model request once the task has spent this much, with 402 `billing_error`. */
  maxCostUsd: number | undefined
  /** A request has been counted. Called when that is stored: whoever notes it elsewhere and is killed finds it by `recordsOf`. */
  onUsage?: (usage: ModelUsage) => void
  onEgress?: (decision: EgressDecision) => void
  /**
   * The account has reached a limit: model requests of this machine are held until the time given. Called with null when they
   * go on.
   */
  onHeld?: (hold: { until: Date; message: string } | null) => void
  /** Something that whoever reads the task's log should know, such as a rate limit. Bounded in number. */
  onNotice?: (message: string) => void
  /** A model request was refused or failed in a way the agent will only report vaguely: for the task's error. */
  onModelError?: (error: { status: number; type: string; message: string }) => void
}

/** The way out of one machine. */
export interface EgressSession {
  /** Takes an egress connection that the guest has opened; the newest one counts. */
  accept(socket: Duplex): void
  /** What the task has spent so far, on earlier machines too. `overBudgetReason` names the budget that refused a request. */
  totals(): {
    usage: TokenUsage
    costUsd: number
    requests: number
    overBudget: boolean
    overBudgetReason?: string
  }
  /**
   * Resolves when what the task has spent on earlier machines is known, and every request that has ended is stored and was told to
   * `onUsage`. Never rejects.
   */
  settled(): Promise<void>
  /** Ends all traffic. Waits for usage of answers under way to be counted. Idempotent. */
  close(): Promise<void>
}

export interface Gateway {
  /**
   * Counts the model requests that an orchestrator which was killed had under way: as incomplete, with the tokens seen, charged with
   * the most they can have cost. To be called before what they belong to goes on; until it has succeeded no request is let through.
   * Idempotent. Rejects with `storage_failed`.
   */
  settle(): Promise<void>
  /**
   * What was counted of a task, the first request first: a task that is taken up again lacks the `usage` events of those whose
   * `requestId` is not in its log.
   */
  recordsOf(taskId: string): Promise<ModelUsage[]>
  open(context: EgressContext): EgressSession
  /** Whether a user's model requests would carry a credential, and of which kind. */
  credentialKind(userId: string): 'api-key' | 'oauth' | undefined
}

/** What was spent, summed. */
export interface Usage {
  /** `since` is ISO 8601; without `userId` of all users. The costliest first, days the latest first. */
  query(query: {
    by: UsageGrouping
    split?: UsageGrouping
    since?: string
    userId?: string
    taskId?: string
    /** Most rows; 1,000 unless given. */
    limit?: number
  }): Promise<UsageRow[]>
}
