import { createHash } from 'node:crypto'
import { GUEST_ANTHROPIC_PORT, GUEST_USER, WORKSPACE } from '../link/protocol.ts'
import { ClaudeParser } from './claude-parser.ts'
import type { Agent, AgentJob } from './types.ts'

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

/** Claude Code, headless, with all permissions: the machine is its sandbox. The prompt comes by stdin. */
export const claudeCode: Agent = {
  name: 'claude-code',
  needsModel: true,
  spec: (job) => ({ argv: argv(job), env: environment(job), cwd: WORKSPACE, user: 'agent', stdin: 'pipe' }),
  input: (job) => Buffer.from(job.prompt),
  transcriptPath: (job) => `${GUEST_USER.home}/.claude/projects/-workspace/${sessionId(job.taskId)}.jsonl`,
  parser: (job) => new ClaudeParser(job),
}

function argv(job: AgentJob): string[] {
  return [
    'claude',
    '-p',
    '--output-format',
    'stream-json',
    '--verbose',
    '--include-partial-messages',
    '--dangerously-skip-permissions',
    '--strict-mcp-config',
    '--session-id',
    sessionId(job.taskId),
    ...(job.model === null ? [] : ['--model', job.model]),
    ...(job.maxTurns === null ? [] : ['--max-turns', String(job.maxTurns)]),
    // No --max-budget-usd: the gateway stops a run at its budget exactly and by its own count; the CLI's is checked late.
  ]
}

function environment(job: AgentJob): Record<string, string> {
  const own = Object.entries(job.env).filter(([name]) => !RESERVED.has(name))
  return {
    ...Object.fromEntries(own),
    ANTHROPIC_BASE_URL: `http://127.0.0.1:${GUEST_ANTHROPIC_PORT}`,
    ...(job.credentialKind === 'oauth'
      ? { CLAUDE_CODE_OAUTH_TOKEN: PLACEHOLDER.oauth }
      : { ANTHROPIC_API_KEY: PLACEHOLDER.apiKey }),
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    CLAUDE_CODE_STARTUP_FAILURE_RESULTS: '1',
    DISABLE_AUTOUPDATER: '1',
  }
}

/** A UUID of the task, so that its transcript is found by name: version 8, made of a digest (RFC 9562, section 5.8). */
function sessionId(taskId: string): string {
  const bytes = createHash('sha256').update(`claude-session ${taskId}`).digest().subarray(0, 16)
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6)
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8)
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
