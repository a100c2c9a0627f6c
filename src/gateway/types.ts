import type { Duplex } from 'node:stream'
import type { NetworkPolicy } from '../contracts/network.ts'
import type { TokenUsage, UsageGrouping, UsageRow } from '../contracts/usage.ts'

/** One model request, counted from its answer. `costUsd` is null where the model has no known price. */
export interface ModelUsage extends TokenUsage {
  model: string
  costUsd: number | null
  /** False when the answer was cut off: the tokens seen so far are what is counted. */
  complete: boolean
  /** HTTP status of the answer. */
  status: number
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
  /** Allowed on top of what the settings allow every machine. */
  policy: NetworkPolicy | undefined
  /** Refuse the next model request once this much is spent, with 402 `billing_error`. */
  maxCostUsd: number | undefined
  onUsage?: (usage: ModelUsage) => void
  onEgress?: (decision: EgressDecision) => void
  /**
   * The account has reached a limit: model requests of this machine are held until the time given. Called with null when they
   * go on.
   */
  onHeld?: (hold: { until: Date; message: string } | null) => void
  /** A model request was refused or failed in a way the agent will only report vaguely: for the task's error. */
  onModelError?: (error: { status: number; type: string; message: string }) => void
}

/** The way out of one machine. */
export interface EgressSession {
  /** Takes an egress connection that the guest has opened; the newest one counts. */
  accept(socket: Duplex): void
  /** What was spent so far. */
  totals(): { usage: TokenUsage; costUsd: number; requests: number; overBudget: boolean }
  /** Ends all traffic. Waits for usage of answers under way to be counted. Idempotent. */
  close(): Promise<void>
}

export interface Gateway {
  open(context: EgressContext): EgressSession
  /** Whether a user's model requests would carry a credential, and of which kind. */
  credentialKind(userId: string): 'api-key' | 'oauth' | undefined
}

/** What was spent, summed. */
export interface Usage {
  /** `since` is ISO 8601; without `userId` of all users. The costliest first, days the latest first; at most 1,000 rows. */
  query(query: { by: UsageGrouping; since?: string; userId?: string }): Promise<UsageRow[]>
}
