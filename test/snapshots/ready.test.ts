import { afterAll, beforeAll, expect, test } from 'vitest'
import { readdirSync, readFileSync } from 'node:fs'
import { startOrchestrator, type TestOrchestrator } from '../support/orchestrator.ts'
import { conversation } from '../support/scripts.ts'

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
  await expect.poll(ready, { timeout: 240_000, interval: 500 }).toEqual(['1', '1'])
}

async function run() {
  const { tasks, vms } = orchestrator.client
  const { id } = await tasks.submit({ prompt: PROMPT })
  let startedFrom: string | undefined
  for await (const event of tasks.follow(id))
    if (event.type === 'tool_call') startedFrom = (await vms.get((await tasks.get(id)).vmId ?? '')).startedFrom
  return { task: await tasks.get(id), startedFrom }
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
