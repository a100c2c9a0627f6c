import type { AgentName } from '../contracts/task.ts'
import type { Failure } from '../contracts/errors.ts'
import type { NewEvent } from '../contracts/event.ts'
import type { ExecExit, ExecSpec } from '../link/types.ts'

/** How an agent's process is started. Its prompt may come much later: it is no part of this. */
export interface AgentStart {
  model: string | null
  maxTurns: number | null
  /** The user's own variables; never credentials of ours. */
  env: Record<string, string>
  /** Which placeholder the guest's environment needs so that the CLI speaks like the credential the gateway injects. */
  credentialKind: 'api-key' | 'oauth' | undefined
  /** A UUID that names the conversation; of no meaning to agents that have none. */
  sessionId: string
  /** The conversation to go on from: this one itself, or another that it branches off from and leaves as it is. Null for a new one. */
  resumes: string | null
}

/** What an agent is asked to do. */
export interface AgentJob extends AgentStart {
  prompt: string
}

/** How an agent that waits for its prompt is told from one that still starts. */
export interface Greeting {
  /** The beginning of its stdin, which it answers when it is ready. */
  input: Buffer
  /** Whether what it has printed on stdout so far holds that answer. */
  isAnswered(stdout: string): boolean
}

/** Where in the guest the record of a conversation lies: below `folder`, a file, and more in a folder that need not exist. */
export interface ConversationFiles {
  folder: string
  transcript: string
  more: string
}

/** What is known when the agent's process has ended. */
export interface AgentOutcome {
  /** The agent's final text, or null. */
  result: string | null
  turns: number
  /** Undefined when the run succeeded. */
  failure: Failure | undefined
}

/**
 * Turns one run's output into events. Made anew for each run; holds no state of any other. An orchestrator that takes up a run of
 * another makes one from its `state`, and gives it the output again from the first `pending` byte on.
 */
export interface AgentParser {
  /** Takes raw output; returns the events it completes. May be asynchronous: huge lines are parsed in a worker. */
  push(stream: 'stdout' | 'stderr', data: Buffer): Promise<NewEvent[]>
  /** How many of the last bytes of each stream no event tells of yet: a line or character that has only begun. */
  readonly pending: { stdout: number; stderr: number }
  /** Waits for the rest of what is pending no longer: events of what there is. */
  cut(): Promise<NewEvent[]>
  /** What it knows beside what is pending: plain data, small, and never changed afterwards. */
  state(): unknown
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
  spec(start: AgentStart): ExecSpec
  /** Undefined for an agent that can't be started before its prompt is there. */
  readonly greeting: Greeting | undefined
  /**
   * Its whole stdin, which begins with the greeting, so that one that has waited reads the same as one that has not. Prompts
   * travel here: an argument ends at 128 KiB, and one that starts with `-` would be an option.
   */
  input(job: AgentJob): Buffer
  /** Where it keeps the record of a conversation; undefined for agents that have none. */
  readonly conversation: ((sessionId: string) => ConversationFiles) | undefined
  /** `state`: of a parser of the same run, to go on from; undefined at its beginning. */
  parser(start: AgentStart, state?: unknown): AgentParser
}
