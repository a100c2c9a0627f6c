import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Task, TaskRequestInput } from '../src/contracts/task.ts'
import { startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'

/** An MCP server in the words of its protocol, with one tool. */
const MCP_SERVER = `
import { createInterface } from 'node:readline'
const tools = [{ name: 'ping', description: 'Answers', inputSchema: { type: 'object', properties: {} } }]
const results = {
  initialize: ({ protocolVersion }) => ({ protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'probe', version: '1' } }),
  'tools/list': () => ({ tools }),
  'tools/call': () => ({ content: [{ type: 'text', text: 'pong from the server' }] }),
}
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line)
  if (id !== undefined) console.log(JSON.stringify({ jsonrpc: '2.0', id, result: results[method]?.(params) ?? {} }))
}
`

const HOOK = [{ hooks: [{ type: 'command', command: 'echo MARK-HOOK' }] }]

/** Everything of a repository's own that Claude Code reads when it starts. */
const FILES = {
  'CLAUDE.md': 'MARK-CLAUDE: say it.\n',
  '.mcp.json': JSON.stringify({ mcpServers: { probe: { command: 'node', args: ['server.mjs'] } } }),
  'server.mjs': MCP_SERVER,
  '.claude/settings.json': JSON.stringify({ hooks: { SessionStart: HOOK } }),
  '.claude/skills/probe/SKILL.md': '---\nname: probe-skill\ndescription: MARK-SKILL\n---\nDo it.\n',
  '.claude/agents/probe.md': '---\nname: probe-agent\ndescription: MARK-AGENT\n---\nHelp.\n',
}

/** Makes the repository in the template. */
const WARM = [
  'mkdir -p .claude/skills/probe .claude/agents',
  ...Object.entries(FILES).map(([path, text]) => `echo ${Buffer.from(text).toString('base64')} | base64 -d > ${path}`),
  'git init -q && git add -A && git -c user.name=t -c user.email=t@example commit -qm first',
].join('\n')

const PROMPT = 'call the tool of the repository'

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({
    script: {
      conversations: [
        conversation(PROMPT, [
          { type: 'tool_use', name: 'mcp__probe__ping', input: {} },
          { type: 'text', text: 'It answered.' },
        ]),
      ],
    },
    settings: {
      template: { warm: { repository: { script: WARM } } },
      ready: { machines: 0, claude: 0, templates: { repository: { claude: 1 } } },
    },
  })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

async function run(more: Partial<TaskRequestInput>): Promise<{ task: Task; first: string; tool: string }> {
  const { client, model } = orchestrator
  const before = model.requests.length
  const { id } = await client.tasks.submit({ prompt: PROMPT, template: 'repository', ...more })
  let tool = ''
  for await (const event of client.tasks.follow(id)) if (event.type === 'tool_result') tool = event.text
  const request = model.requests.slice(before).find(({ method }) => method === 'POST')
  return { task: await client.tasks.get(id), first: withoutIds({ ...request, headers: named(request?.headers) }), tool }
}

/** Headers but for those that name the connection or the conversation. */
function named(headers: object = {}): object {
  const changing = new Set(['host', 'connection', 'content-length', 'x-claude-code-session-id'])
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !changing.has(name)))
}

/** UUIDs, and the random name that Claude Code gives its installation. */
function withoutIds(value: unknown): string {
  return JSON.stringify(value, null, 1)
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
    .replaceAll(/device_id(\W+)[0-9a-f]{64}/g, 'device_id$1HEX')
}

test('a Claude that waited and one that is started for its task send the same first request, with all of the repository in it', async () => {
  // A variable of its own keeps the task from using what waits.
  const fresh = await run({ env: { ONLY_FOR_THIS_TASK: '1' } })
  expect(fresh.task).toMatchObject({ status: 'succeeded', result: 'It answered.' })
  expect(fresh.tool).toContain('pong from the server')
  for (const part of ['MARK-CLAUDE', 'MARK-HOOK', 'MARK-SKILL', 'MARK-AGENT', 'mcp__probe__ping'])
    expect(fresh.first).toContain(part)

  let waited = await run({})
  // The pool needs a moment to make one ready.
  for (let tries = 0; tries < 10 && !usedReady(waited.task); tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 5000))
    waited = await run({})
  }
  expect(waited.task).toMatchObject({ status: 'succeeded' })
  expect(waited.task.phases.map(({ name }) => name)).toEqual(['ready machine', 'first output', 'agent run', 'collect'])
  expect(waited.tool).toContain('pong from the server')
  expect(waited.first).toBe(fresh.first)
})

function usedReady({ phases }: Task): boolean {
  return phases.some(({ name }) => name === 'ready machine')
}
