import type { Readable } from 'node:stream'
import type { VivariumClient } from '../client/types.ts'
import type { Cancellation } from './cancellations.ts'
import type { Grace } from './grace.ts'

/** What the tools work with. One per caller: the client carries the caller's key. */
export interface ToolEnvironment {
  client: VivariumClient
  grace: Grace
  /** At most this long between two progress messages, in ms: clients give up on a call that stays silent. */
  progressMs: number
  /** Aborts when this server is about to go: calls that wait for a task then answer with how it stands. */
  ending: AbortSignal
  /** A folder of this machine as a tar stream; undefined where the caller sits on another machine. */
  packWorkspace: ((path: string) => Promise<Readable>) | undefined
  /** Where the transport says apart from the SDK that the client takes a call back: an ear for that. */
  listenForCancel: (requestId: string | number) => Cancellation | undefined
}

export interface McpOptions {
  /** How long a task outlives the connection of the `run_task` that waits for it, in ms. */
  graceMs: number
  progressMs: number
}

/** Two minutes of grace; Claude Code gives up after 60 s without a first byte, others after less. */
export const MCP_DEFAULTS: McpOptions = { graceMs: 120_000, progressMs: 10_000 }
