import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buffer } from 'node:stream/consumers'
import type { TaskEvent } from '../src/contracts/event.ts'
import { Task } from '../src/contracts/task.ts'
import { startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'

const payload = randomBytes(3000).toString('base64')
const report = '# Report\n\nü ✓ the end, without a newline'

const script = {
  conversations: [
    conversation('write the two files', [
      { type: 'thinking', text: 'Two files.' },
      {
        type: 'tool_use',
        name: 'Bash',
        input: { command: `mkdir -p out && printf %s ${payload} | base64 -d > out/blob.bin && ls out` },
      },
      { type: 'tool_use', name: 'Write', input: { file_path: '/workspace/report.md', content: report } },
      { type: 'text', text: 'Both files are written.' },
    ]),
    ...['alpha', 'beta'].map((name) =>
      conversation(`say ${name}`, [
        {
          type: 'tool_use',
          name: 'Bash',
          input: { command: `for i in 1 2 3 4 5; do echo ${name}-$i; done; echo ${name} > ${name}.txt` },
        },
        { type: 'text', text: `I am ${name}.` },
      ]),
    ),
  ],
}

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({ script })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

async function eventsOf(id: string): Promise<TaskEvent[]> {
  const events: TaskEvent[] = []
  for await (const event of orchestrator.client.tasks.follow(id)) events.push(event)
  return events
}

describe('a prompt becomes a finished task in a real machine', () => {
  test('run --json: real Claude Code runs Bash and Write, files come back byte for byte, cost is the gateway’s, exit code right', async () => {
    const { code, stdout, stderr } = await orchestrator.cli(['run', 'please write the two files', '--json'])
    expect({ code, stderr }).toMatchObject({ code: 0 })
    const task = Task.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''))
    expect(task).toMatchObject({ status: 'succeeded', exitCode: 0, result: 'Both files are written.', error: null })

    expect(task.files.map((file) => file.path).toSorted()).toEqual(['out/blob.bin', 'report.md'])
    const blob = await buffer((await orchestrator.client.tasks.file(task.id, 'out/blob.bin')).body)
    expect(sha256(blob)).toBe(sha256(Buffer.from(payload, 'base64')))
    const text = await buffer((await orchestrator.client.tasks.file(task.id, 'report.md')).body)
    expect(text.toString()).toBe(report)

    const events = await eventsOf(task.id)
    expect(events.map((event) => event.seq)).toEqual(events.map((_, index) => index + 1))
    const types = new Set(events.map((event) => event.type))
    for (const type of ['status', 'thinking', 'tool_call', 'tool_result', 'text', 'result', 'usage'] as const)
      expect(types).toContain(type)
    const usage = events.filter((event) => event.type === 'usage')
    expect(usage.length).toBe(3)
    expect(task.costUsd).toBeGreaterThan(0)
    expect(task.costUsd).toBeCloseTo(
      usage.reduce((sum, event) => sum + (event.costUsd ?? 0), 0),
      10,
    )
    const rows = await orchestrator.client.usage({ by: 'task' })
    expect(rows.find((row) => row.key === task.id)?.costUsd).toBeCloseTo(task.costUsd, 10)
    const result = events.findLast((event) => event.type === 'result')
    expect(result?.reportedCostUsd).toBeCloseTo(task.costUsd, 6)
  })

  test('two tasks at once never mix events', async () => {
    const names = ['alpha', 'beta']
    const tasks = await Promise.all(names.map((name) => orchestrator.client.tasks.submit({ prompt: `say ${name}` })))
    const logs = await Promise.all(tasks.map((task) => eventsOf(task.id)))
    for (const [index, events] of logs.entries()) {
      const mine = names[index] ?? ''
      const other = names[1 - index] ?? ''
      const said = JSON.stringify(events)
      expect(events.every((event) => event.taskId === tasks[index]?.id)).toBe(true)
      expect(said).toContain(`${mine}-5`)
      expect(said).not.toContain(`${other}-5`)
      const task = await orchestrator.client.tasks.get(tasks[index]?.id ?? '')
      expect(task).toMatchObject({ status: 'succeeded', result: `I am ${mine}.` })
      expect(task.files.map((file) => file.path)).toEqual([`${mine}.txt`])
    }
  })
})

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
