import type { IncomingHttpHeaders } from 'node:http2'

/** The agent's own names for what a request belongs to. */
export interface Attribution {
  /** The conversation; null where the request names none. */
  sessionId: string | null
  /** Null for the agent itself, a name for each of its subagents. */
  agentId: string | null
}

/** Reads the headers that Claude Code names its conversation and subagents by. A guest may write there what it likes. */
export function attributionOf(headers: IncomingHttpHeaders): Attribution {
  return {
    sessionId: nameIn(headers['x-claude-code-session-id']),
    agentId: nameIn(headers['x-claude-code-agent-id']),
  }
}

function nameIn(value: string | string[] | undefined): string | null {
  return typeof value === 'string' && /^[\w.:@-]{1,100}$/.test(value) ? value : null
}
