import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { TaskRequestInput } from '../src/contracts/task.ts'
import type { Task } from '../src/contracts/task.ts'
import { startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'

const does = (when: string, command: string) =>
  conversation(when, [
    { type: 'tool_use', name: 'Bash', input: { command } },
    { type: 'text', text: `Done: ${when}.` },
  ])

const script = {
  conversations: [
    does('the first step', 'echo one > notes.txt; echo kept >> /tmp/outside'),
    does('the second step', 'cat notes.txt /tmp/outside; echo two >> notes.txt'),
    does('an attempt', 'cat notes.txt /tmp/outside; cat /proc/sys/kernel/random/uuid > mine.txt'),
    does('much later', 'cat notes.txt; ls /tmp/outside'),
    does('something slow', 'for i in 1 2 3 4 5 6 7 8; do echo tick $i; sleep 1; done; echo over'),
  ],
}

let orchestrator: TestOrchestrator
beforeAll(async () => {
  // Only machines that the test starts itself.
  const env = { VIVARIUM_READY_MACHINES: '0', VIVARIUM_READY_CLAUDE: '0' }
  orchestrator = await startOrchestrator({ script, env })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

async function done({ id }: Task): Promise<Task> {
  for await (const event of orchestrator.client.tasks.follow(id)) void event
  return orchestrator.client.tasks.get(id)
}

const run = async (prompt: string, more: Partial<TaskRequestInput> = {}) =>
  done(await orchestrator.client.tasks.submit({ prompt, ...more }))

/** What the tools of a task printed. */
async function printed({ id }: Task): Promise<string> {
  const { items } = await orchestrator.client.tasks.events(id)
  return items.flatMap((event) => (event.type === 'tool_result' ? [event.text] : [])).join('\n')
}

/** What the log of a task warns of. */
async function warnings({ id }: Task): Promise<string[]> {
  const { items } = await orchestrator.client.tasks.events(id)
  return items.flatMap((event) => (event.type === 'log' && event.level === 'warn' ? [event.message] : []))
}

/** The prompts that a model request carries, by the request of the last prompt. */
function promptsSent(last: string): string[] {
  const bodies = orchestrator.model.requests.map(({ body }) => JSON.stringify(body ?? null))
  const body = bodies.findLast((sent) => sent.includes(last)) ?? ''
  return ['the first step', 'the second step', 'an attempt', 'much later'].filter((prompt) => body.includes(prompt))
}

test('a task goes on in its kept machine, in copies of it, and from its stored state when that is gone', async () => {
  const first = await run('please do the first step', { keepVmSeconds: 3600 })
  expect(first).toMatchObject({ status: 'succeeded', error: null })
  expect(await warnings(first)).toEqual([])

  const second = await run('now the second step', { continues: first.id })
  expect(await warnings(second)).toEqual([])
  expect(second).toMatchObject({ status: 'succeeded', vmId: first.vmId, sessionId: first.sessionId })
  expect(await printed(second)).toBe('one\nkept')
  expect(promptsSent('now the second step')).toEqual(['the first step', 'the second step'])
  expect(second.files.map(({ path }) => path)).toEqual(['notes.txt'])
  const patch = await text((await orchestrator.client.tasks.patch(second.id)).body)
  expect(patch).toContain('+two')
  expect(patch).not.toContain('+one')

  const attempts = await Promise.all(
    (await orchestrator.client.tasks.fork(second.id, { prompt: 'make an attempt', count: 2 })).map(done),
  )
  for (const attempt of attempts) {
    expect(attempt).toMatchObject({ status: 'succeeded', fork: true, continues: second.id })
    expect(await printed(attempt)).toBe('one\ntwo\nkept')
    expect(attempt.files.map(({ path }) => path)).toEqual(['mine.txt'])
  }
  const ids = await Promise.all(
    attempts.map(async ({ id }) => text((await orchestrator.client.tasks.file(id, 'mine.txt')).body)),
  )
  expect(new Set(ids).size).toBe(2)
  expect(new Set([second, ...attempts].map(({ sessionId }) => sessionId)).size).toBe(3)
  expect(await orchestrator.client.vms.list()).toMatchObject([
    { id: first.vmId, state: 'suspended', taskId: second.id },
  ])

  await orchestrator.client.vms.destroy(first.vmId ?? '')
  const later = await run('much later', { continues: second.id })
  expect(later).toMatchObject({ status: 'succeeded', sessionId: first.sessionId })
  expect(await printed(later)).toMatch(/one\ntwo\n.*cannot access '\/tmp\/outside'/)
  expect(promptsSent('much later')).toEqual(['the first step', 'the second step', 'much later'])
  expect(await orchestrator.client.vms.list()).toEqual([])
})

test('a running task waits while its machine is suspended, and goes on where it was', async () => {
  const { client } = orchestrator
  const { id } = await client.tasks.submit({ prompt: 'something slow' })
  const statuses: string[] = []
  for await (const event of client.tasks.follow(id)) {
    if (event.type === 'status' && event.phase === undefined) statuses.push(event.status)
    if (event.type !== 'tool_call') continue
    const { vmId } = await client.tasks.get(id)
    await client.vms.suspend(vmId ?? '')
    expect((await client.tasks.get(id)).status).toBe('waiting')
    await client.vms.resume(vmId ?? '')
  }
  const task = await client.tasks.get(id)
  expect(task).toMatchObject({ status: 'succeeded', result: 'Done: something slow.' })
  expect(await printed(task)).toBe(`${[1, 2, 3, 4, 5, 6, 7, 8].map((n) => `tick ${n}`).join('\n')}\nover`)
  expect(statuses).toEqual(['queued', 'starting', 'running', 'waiting', 'running', 'collecting', 'succeeded'])
})
