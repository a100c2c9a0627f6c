import { afterAll, beforeAll, expect, test } from 'vitest'
import { readdirSync, readFileSync } from 'node:fs'
import type { TaskRequestInput } from '../../src/contracts/task.ts'
import { startOrchestrator, type TestOrchestrator } from '../support/orchestrator.ts'
import { conversation } from '../support/scripts.ts'

/** A repository that shows in the first request to the model: instructions, an MCP server with a tool, hooks, and a skill. */
const REPOSITORY = `
set -e
git init -q .
echo 'Always answer in rhyme: rule-from-claude-md.' > CLAUDE.md
mkdir -p .claude/skills/brew
printf -- '---\\nname: brew\\ndescription: Brews tea: skill-from-repository.\\n---\\nBoil water.\\n' > .claude/skills/brew/SKILL.md
cat > .claude/settings.json <<'JSON'
{"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "echo hook-from-repository"}]}]}}
JSON
echo '{"mcpServers": {"kettle": {"command": "node", "args": ["kettle.mjs"]}}}' > .mcp.json
cat > kettle.mjs <<'JS'
import { createInterface } from 'node:readline'
const answer = (id, result) => console.log(JSON.stringify({ jsonrpc: '2.0', id, result }))
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line)
  if (method === 'initialize') answer(id, { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'kettle', version: '1' } })
  else if (method === 'tools/list') answer(id, { tools: [{ name: 'boil', description: 'tool-from-mcp', inputSchema: { type: 'object' } }] })
  else if (id !== undefined) answer(id, {})
}
JS
git add -A && git -c user.name=t -c user.email=t@example.org commit -qm first
`

const script = {
  conversations: [
    conversation('write a note', [
      { type: 'tool_use', name: 'Write', input: { file_path: '/workspace/note.txt', content: 'ready\n' } },
      { type: 'text', text: 'Written.' },
    ]),
  ],
}

const PROMPT = 'write a note'

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({
    script,
    settings: {
      template: { warm: { tea: { script: REPOSITORY } } },
      ready: { machines: 1, claude: 1, templates: { tea: { claude: 1 } } },
    },
    env: { VIVARIUM_READY_MACHINES: '1', VIVARIUM_READY_CLAUDE: '1' },
  })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

/** Waits until everything is ready that the settings ask for. */
async function untilReady(): Promise<void> {
  const headers = { authorization: `Bearer ${orchestrator.key}` }
  const ready = async () => {
    const metrics = await (await fetch(`${orchestrator.url}/api/v1/metrics`, { headers })).text()
    return ['machines', 'agents'].map((name) => new RegExp(`^vivarium_ready_${name} (\\d+)$`, 'm').exec(metrics)?.[1])
  }
  await expect.poll(ready, { timeout: 240_000, interval: 500 }).toEqual(['1', '2'])
}

async function run(request: Partial<TaskRequestInput> = {}) {
  const { tasks, vms } = orchestrator.client
  const { id } = await tasks.submit({ prompt: PROMPT, ...request })
  let startedFrom: string | undefined
  for await (const event of tasks.follow(id))
    if (event.type === 'tool_call') startedFrom = (await vms.get((await tasks.get(id)).vmId ?? '')).startedFrom
  return { task: await tasks.get(id), startedFrom }
}

/** The first request to the model of a task, without what names a session, a machine or a moment. */
function firstRequest(sessionId: string | null): unknown {
  const found = orchestrator.model.requests.find(
    ({ path, headers }) => path.startsWith('/v1/messages?') && headers['x-claude-code-session-id'] === sessionId,
  )
  const text = JSON.stringify(found?.body)
  expect(text).toContain(PROMPT)
  const ids = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{64}\b/g
  return JSON.parse(text.replaceAll(ids, '<id>'))
}

test('a task is served by a machine in which Claude Code waited, with a conversation of its own', async () => {
  await untilReady()
  const first = await run()
  expect(first).toMatchObject({ startedFrom: 'ready', task: { status: 'succeeded', result: 'Written.' } })
  expect(first.task.files).toMatchObject([{ path: 'note.txt', size: 6 }])
  expect(first.task.phases.map(({ name }) => name)).toContain('ready machine')
  await untilReady()
  const second = await run()
  expect(second.startedFrom).toBe('ready')
  expect(second.task.sessionId).not.toBe(first.task.sessionId)
  expect(second.task.vmId).not.toBe(first.task.vmId)
})

test('a Claude that waited and one that was started for the task send the same first request, repository and all', async () => {
  await untilReady()
  const waited = await run({ template: 'tea' })
  expect(waited).toMatchObject({ startedFrom: 'ready', task: { status: 'succeeded' } })
  // A limit of turns has to be known when Claude starts, so this one could not wait.
  const started = await run({ template: 'tea', maxTurns: 50 })
  expect(started).toMatchObject({ startedFrom: 'template', task: { status: 'succeeded' } })
  const request = firstRequest(waited.task.sessionId)
  expect(request).toEqual(firstRequest(started.task.sessionId))
  const text = JSON.stringify(request)
  for (const sign of ['rule-from-claude-md', 'skill-from-repository', 'mcp__kettle__boil', 'hook-from-repository'])
    expect(text).toContain(sign)
  expect(waited.task.hasPatch).toBe(true)
})

test('a ready machine that has died is not handed out', async () => {
  await untilReady()
  const ready = readdirSync(orchestrator.runDir)
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)))
    if (ready.some((id) => commandLine(name).includes(`vivarium-${id}`))) process.kill(Number(name), 'SIGKILL')
  const { task } = await run()
  expect(task).toMatchObject({ status: 'succeeded', result: 'Written.' })
  expect(ready).not.toContain(task.vmId)
})

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return '' // it ended meanwhile
  }
}
