import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { TaskEvent } from '../src/contracts/event.ts'
import { processesNaming, startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'

/*
 * What goes on in real machines when the orchestrator is killed, or stops, and starts again.
 */

const LINES = 150
const COUNTING = `for i in $(seq 1 ${LINES}); do echo "line $i of $$"; sleep 0.1; done; echo whole > end.txt`

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({
    script: {
      conversations: [
        {
          when: 'Write the report',
          turns: [
            {
              blocks: [{ type: 'tool_use', name: 'Bash', input: { command: 'echo first > first.txt' } }],
              delayMs: 4000,
            },
            // Being told slowly when the orchestrator is killed: this answer is cut, and asked for again.
            { blocks: [{ type: 'text', text: 'All of the report is written. '.repeat(10) }], pieceDelayMs: 400 },
          ],
        },
      ],
    },
    env: { VIVARIUM_TASKS_AT_SHUTDOWN: 'suspend' },
  })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

async function events(id: string): Promise<TaskEvent[]> {
  const all: TaskEvent[] = []
  for await (const event of orchestrator.client.tasks.follow(id)) all.push(event)
  return all
}

/** Until a task's log holds an event. */
async function seen(id: string, isMeant: (event: TaskEvent) => boolean): Promise<void> {
  for await (const event of orchestrator.client.tasks.follow(id)) if (isMeant(event)) return
  throw new Error(`${id} ended before`)
}

function linesOf(all: TaskEvent[]): string[] {
  const text = all.map((event) => (event.type === 'raw' ? event.text : '')).join('')
  return text.trim().split('\n')
}

function expectWhole(all: TaskEvent[]): void {
  expect(all.map(({ seq }) => seq)).toEqual(all.map((_, n) => n + 1))
  const lines = linesOf(all)
  expect(lines.map((line) => Number(line.split(' ')[1]))).toEqual(Array.from({ length: LINES }, (_, n) => n + 1))
  expect(new Set(lines.map((line) => line.split(' ')[3])).size).toBe(1)
}

test('running tasks go on in their machines when the orchestrator is killed: nothing lost, doubled or out of order, cost whole', async () => {
  const { tasks } = orchestrator.client
  const counting = await tasks.submit({ prompt: COUNTING, agent: 'shell' })
  const asking = await tasks.submit({ prompt: 'Write the report' })
  await Promise.all([
    seen(counting.id, (event) => event.type === 'raw'),
    seen(asking.id, (event) => event.type === 'delta' && event.kind === 'text'),
  ])
  await orchestrator.restart('SIGKILL')
  await sleep(3000)
  await orchestrator.restart('SIGKILL')

  const [counted, asked] = await Promise.all([events(counting.id), events(asking.id)])
  expectWhole(counted)
  expect(asked.map(({ seq }) => seq)).toEqual(asked.map((_, n) => n + 1))
  const { client, model } = orchestrator
  expect(await client.tasks.get(counting.id)).toMatchObject({ status: 'succeeded', files: [{ path: 'end.txt' }] })
  const report = await client.tasks.get(asking.id)
  expect(report).toMatchObject({ status: 'succeeded', files: [{ path: 'first.txt' }] })
  expect(report.result).toMatch(/^All of the report/)

  // Every request that the model was sent is told of once; those that it answered whole are counted as it said.
  const usage = asked.filter((event) => event.type === 'usage')
  expect(new Set(usage.map(({ requestId }) => requestId)).size).toBe(usage.length)
  expect(usage.filter(({ complete }) => complete)).toHaveLength(2)
  expect(usage.filter(({ complete }) => !complete).length).toBeGreaterThan(0)
  expect(usage.length).toBe(model.requests.filter(({ path }) => path.startsWith('/v1/messages')).length)
  expect(usage.reduce((sum, { costUsd }) => sum + (costUsd ?? 0), 0)).toBeCloseTo(report.costUsd, 8)
})

test('a task whose machine died while no orchestrator ran is interrupted, with what its disk holds', async () => {
  const { tasks } = orchestrator.client
  const prompt = 'echo kept > kept.txt; for i in $(seq 1 600); do echo "line $i"; sleep 0.1; done'
  const { id } = await tasks.submit({ prompt, agent: 'shell' })
  await seen(id, (event) => event.type === 'raw' && event.text.includes('line 80'))
  const { vmId } = await tasks.get(id)
  orchestrator.process.kill('SIGKILL')
  for (const pid of processesNaming(`vivarium-${vmId}`)) process.kill(pid, 'SIGKILL')
  await orchestrator.restart('SIGKILL')
  const all = await events(id)
  const task = await orchestrator.client.tasks.get(id)
  expect(task).toMatchObject({ status: 'interrupted', error: { code: 'interrupted' }, files: [{ path: 'kept.txt' }] })
  expect(task.error?.message).toMatch(/machine was lost while no server ran/)
  expect(linesOf(all).slice(0, 80)).toEqual(Array.from({ length: 80 }, (_, n) => `line ${n + 1}`))
})

test('a server that is stopped saves what runs, and it goes on by itself at the next start', async () => {
  const { tasks } = orchestrator.client
  const { id } = await tasks.submit({ prompt: COUNTING, agent: 'shell' })
  await seen(id, (event) => event.type === 'raw')
  await orchestrator.restart('SIGTERM')
  expectWhole(await events(id))
  expect(await orchestrator.client.tasks.get(id)).toMatchObject({ status: 'succeeded', files: [{ path: 'end.txt' }] })
})

test('nothing of all this is left', async () => {
  const disks = join(orchestrator.home, 'machines')
  await expect.poll(() => processesNaming(orchestrator.runDir), { timeout: 20_000 }).toEqual([])
  expect(existsSync(disks) ? readdirSync(disks) : []).toEqual([])
})
