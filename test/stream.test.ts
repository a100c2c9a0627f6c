import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { TaskEvent } from '../src/contracts/event.ts'
import { startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({ script: { conversations: [] } })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

/** Reads a task's WebSocket to its end, pausing `pauseMs` after each message. */
async function readSocket(id: string, pauseMs = 0): Promise<TaskEvent[]> {
  const url = `${orchestrator.url.replace('http', 'ws')}/api/v1/tasks/${id}/stream`
  const socket = new WebSocket(url, { headers: { authorization: `Bearer ${orchestrator.key}` } })
  const events: TaskEvent[] = []
  const closed = once(socket, 'close')
  socket.on('message', (data) => {
    events.push(TaskEvent.parse(JSON.parse(String(data))))
    if (pauseMs === 0) return
    socket.pause()
    void sleep(pauseMs).then(() => socket.resume())
  })
  await closed
  return events
}

test('a WebSocket opened before, during and after the task sees exactly the same events; a slow one delays nobody', async () => {
  const prompt = 'for i in $(seq 1 40); do echo line $i; sleep 0.2; done; echo end > end.txt'
  const task = await orchestrator.client.tasks.submit({ prompt, agent: 'shell' })
  const before = readSocket(task.id)
  let slowIsDone = false
  const slow = readSocket(task.id, 1000).finally(() => {
    slowIsDone = true
  })
  for await (const event of orchestrator.client.tasks.follow(task.id)) if (event.type === 'raw') break
  const during = readSocket(task.id)
  const [seenBefore, seenDuring] = await Promise.all([before, during])
  expect(slowIsDone).toBe(false)
  const seenAfter = await readSocket(task.id)
  const stored: TaskEvent[] = []
  for await (const event of orchestrator.client.tasks.follow(task.id)) stored.push(event)

  expect(stored.map((event) => event.seq)).toEqual(stored.map((_, index) => index + 1))
  const printed = stored.map((event) => (event.type === 'raw' ? event.text : '')).join('')
  for (let i = 1; i <= 40; i++) expect(printed).toContain(`line ${i}\n`)
  expect(seenBefore).toEqual(stored)
  expect(seenDuring).toEqual(stored)
  expect(seenAfter).toEqual(stored)
  expect(await slow).toEqual(stored)
})
