import { GUEST_ANTHROPIC_PORT, GUEST_USER, WORKSPACE } from '../link/protocol.ts'
import { ClaudeParser } from './claude-parser.ts'
import type { Agent, AgentStart, Greeting } from './types.ts'

/** In place of a credential: the gateway injects the real one. The CLI checks the shape of neither. */
const PLACEHOLDER = { apiKey: 'sk-ant-vivarium-placeholder', oauth: 'sk-ant-oat01-vivarium-placeholder' }

/** Variables that decide where model requests go and what they carry: ours alone. */
const RESERVED = new Set([
  'ANTHROPIC_API_KEY',
  'ANTHROPIC_AUTH_TOKEN',
  'ANTHROPIC_BASE_URL',
  'CLAUDE_CODE_OAUTH_TOKEN',
  'CLAUDE_CODE_USE_BEDROCK',
  'CLAUDE_CODE_USE_VERTEX',
  'CLAUDE_CONFIG_DIR',
])

/**
 * Without these the tools of a repository's `.mcp.json` may be missing from the first request: the CLI would not wait for its
 * servers, or for 5 s only, and one that starts under software emulation needs longer. A task may set them otherwise.
 */
const WAIT_FOR_MCP_SERVERS = {
  MCP_CONNECTION_NONBLOCKING: '0',
  MCP_CONNECT_TIMEOUT_MS: '30000',
  MCP_TIMEOUT: '30000',
}

const GREETING_ID = 'vivarium-greeting'

/** The CLI answers `initialize` when hooks have run and MCP servers are there; it changes nothing in what the model is sent. */
const greeting: Greeting = {
  input: line({ type: 'control_request', request_id: GREETING_ID, request: { subtype: 'initialize' } }),
  isAnswered: (stdout) => stdout.includes(`"request_id":"${GREETING_ID}"`),
}

/**
 * Claude Code, headless, with all permissions: the machine is its sandbox. A repository's own CLAUDE.md, hooks, skills and
 * `.mcp.json` work without asking for the same reason. The prompt comes by stdin, sooner or later: the command line is the same.
 */
export const claudeCode: Agent = {
  name: 'claude-code',
  needsModel: true,
  spec: (start) => ({ argv: argv(start), env: environment(start), cwd: WORKSPACE, user: 'agent', stdin: 'pipe' }),
  greeting,
  input: ({ prompt }) =>
    Buffer.concat([
      greeting.input,
      line({ type: 'user', message: { role: 'user', content: [{ type: 'text', text: prompt }] } }),
    ]),
  conversation: (sessionId) => ({
    folder: `${GUEST_USER.home}/.claude/projects/-workspace`,
    transcript: `${sessionId}.jsonl`,
    more: sessionId,
  }),
  parser: (start, state) => new ClaudeParser(start, state),
}

function line(message: object): Buffer {
  return Buffer.from(`${JSON.stringify(message)}\n`)
}

function argv(start: AgentStart): string[] {
  return [
    'claude',
    '-p',
    '--input-format',
    'stream-json',
    '--output-format',
    'stream-json',
    '--verbose',
    '--include-partial-messages',
    '--dangerously-skip-permissions',
    ...conversation(start),
    ...(start.model === null ? [] : ['--model', start.model]),
    ...(start.maxTurns === null ? [] : ['--max-turns', String(start.maxTurns)]),
    // No --max-budget-usd: the gateway stops a run at its budget exactly and by its own count; the CLI's is checked late.
  ]
}

/** The CLI refuses `--session-id` for one that exists, and beside `--resume` unless it forks. */
function conversation({ sessionId, resumes }: AgentStart): string[] {
  if (resumes === null) return ['--session-id', sessionId]
  if (resumes === sessionId) return ['--resume', sessionId]
  return ['--resume', resumes, '--fork-session', '--session-id', sessionId]
}

function environment(start: AgentStart): Record<string, string> {
  const own = Object.entries(start.env).filter(([name]) => !RESERVED.has(name))
  return {
    ...WAIT_FOR_MCP_SERVERS,
    ...Object.fromEntries(own),
    ANTHROPIC_BASE_URL: `http://127.0.0.1:${GUEST_ANTHROPIC_PORT}`,
    ...(start.credentialKind === 'oauth'
      ? { CLAUDE_CODE_OAUTH_TOKEN: PLACEHOLDER.oauth }
      : { ANTHROPIC_API_KEY: PLACEHOLDER.apiKey }),
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    CLAUDE_CODE_STARTUP_FAILURE_RESULTS: '1',
    DISABLE_AUTOUPDATER: '1',
  }
}
