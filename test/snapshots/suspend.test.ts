import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { TaskEvent } from '../../src/contracts/event.ts'
import { processesNaming, startOrchestrator, type TestOrchestrator } from '../support/orchestrator.ts'

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({ script: { conversations: [] } })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

test('a machine is suspended under its task and goes on: the same process, its output without gap or repetition, the clock right', async () => {
  const { tasks } = orchestrator.client
  const count = 100
  const prompt = `for i in $(seq 1 ${count}); do echo line $i $$ $(date +%s); sleep 0.1; done; echo whole > end.txt`
  const { id } = await tasks.submit({ prompt, agent: 'shell' })
  const events: TaskEvent[] = []
  let suspended: Promise<void> | undefined
  for await (const event of tasks.follow(id)) {
    events.push(event)
    if (event.type === 'raw') suspended ??= suspendAWhile((await tasks.get(id)).vmId ?? '')
  }
  await suspended
  const task = await tasks.get(id)
  expect(task).toMatchObject({ status: 'succeeded', files: [{ path: 'end.txt' }] })
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1))

  const lines = events
    .map((event) => (event.type === 'raw' ? event.text : ''))
    .join('')
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
  expect(lines.map(([, number]) => Number(number))).toEqual(Array.from({ length: count }, (_, index) => index + 1))
  expect(new Set(lines.map(([, , pid]) => pid)).size).toBe(1)
  const last = Number(lines.at(-1)?.[3]) * 1000
  expect(Math.abs(Date.parse(task.finishedAt ?? '') - last)).toBeLessThan(30_000)
  const statuses = events.flatMap((event) => (event.type === 'status' ? [event.status] : []))
  expect(statuses.filter((status, index) => status !== statuses[index - 1])).toEqual([
    'queued',
    'starting',
    'running',
    'waiting',
    'running',
    'collecting',
    'succeeded',
  ])
})

/** Suspends a machine, sees that it takes no memory, and lets it go on. */
async function suspendAWhile(vmId: string): Promise<void> {
  const { vms } = orchestrator.client
  expect(await vms.suspend(vmId)).toMatchObject({ state: 'suspended' })
  expect(processesNaming(`vivarium-${vmId}`)).toEqual([])
  await sleep(3000)
  expect(await vms.resume(vmId)).toMatchObject({ state: 'ready' })
}

test('a kept machine has its state for exec, is suspended while nobody uses it, and comes back by being used, also after a restart', async () => {
  await using short = await startOrchestrator({
    script: { conversations: [] },
    env: { VIVARIUM_MACHINES_SUSPEND_IDLE_SECONDS: '1' },
  })
  const { tasks, vms } = short.client
  const { id } = await tasks.submit({
    prompt: 'echo kept > note.txt; echo $$ > pid',
    agent: 'shell',
    keepVmSeconds: 600,
  })
  for await (const _ of tasks.follow(id));
  const { vmId } = await tasks.get(id)
  await expect.poll(() => vms.get(vmId ?? '').then(({ state }) => state), { timeout: 60_000 }).toBe('suspended')
  expect(await vms.exec(vmId ?? '', { command: 'cat note.txt' })).toMatchObject({ stdout: 'kept\n' })
  await expect.poll(() => vms.get(vmId ?? '').then(({ state }) => state), { timeout: 60_000 }).toBe('suspended')

  await short.restart()
  expect(await short.client.vms.get(vmId ?? '')).toMatchObject({ state: 'suspended', taskId: id })
  expect(await short.client.vms.exec(vmId ?? '', { command: 'cat note.txt' })).toMatchObject({ stdout: 'kept\n' })
  await short.client.vms.destroy(vmId ?? '')
})
