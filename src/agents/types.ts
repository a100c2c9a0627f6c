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
  /**
   * Since when (ms, `performance.now()`) the agent has nothing left to do: it gave a result, and neither went on working nor
   * has work of its own in the background. A process that lingers longer after that is ended by the runner.
   */
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
  /** The process to start in the guest; reads `input` from its stdin. */
  spec(job: AgentJob): ExecSpec
  /** Its whole stdin. Prompts travel here: an argument ends at 128 KiB, and one that starts with `-` would be an option. */
  input(job: AgentJob): Buffer
  /** Where in the guest the agent keeps the record of its conversation, if it does. */
  transcriptPath(job: AgentJob): string | undefined
  parser(job: AgentJob): AgentParser
}
