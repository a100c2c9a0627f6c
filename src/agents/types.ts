import type { AgentName } from '../contracts/task.ts'
import type { Failure } from '../contracts/errors.ts'
import type { NewEvent } from '../contracts/event.ts'
import type { ExecExit, ExecSpec } from '../link/types.ts'

/** What an agent is asked to do. */
export interface AgentJob {
  taskId: string
  prompt: string
  model: string | null
  maxTurns: number | null
  maxCostUsd: number | null
  /** The user's own variables; never credentials of ours. */
  env: Record<string, string>
  /** Which placeholder the guest's environment needs so that the CLI speaks like the credential the gateway injects. */
  credentialKind: 'api-key' | 'oauth' | undefined
}

/** What is known when the agent's process has ended. */
export interface AgentOutcome {
  /** The agent's final text, or null. */
  result: string | null
  turns: number
  /** Undefined when the run succeeded. */
  failure: Failure | undefined
}

/** Turns one run's output into events. Made anew for each run; holds no state of any other. */
export interface AgentParser {
  /** Takes raw output; returns the events it completes. May be asynchronous: huge lines are parsed in a worker. */
  push(stream: 'stdout' | 'stderr', data: Buffer): Promise<NewEvent[]>
  /** Output has ended: events for what was left over. */
  end(): Promise<NewEvent[]>
  /** Whether a result was seen, and when (ms, `performance.now()`): a process that lingers after it is ended by the runner. */
  readonly resultAt: number | undefined
  /** How the run went, given how its process ended. Call after `end()`. */
  outcome(exit: ExecExit): AgentOutcome
  /** Frees what the parser holds (its worker). */
  close(): Promise<void>
}

/** A kind of thing that runs in a machine. */
export interface Agent {
  readonly name: AgentName
  /** Whether it talks to the model, and so needs a credential. */
  readonly needsModel: boolean
  /** The process to start in the guest. */
  spec(job: AgentJob): ExecSpec
  parser(job: AgentJob): AgentParser
}
