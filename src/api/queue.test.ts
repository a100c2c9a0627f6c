import { expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import { VivariumError } from '../contracts/errors.ts'
import { createApp } from './app.ts'
import { fakeOptions, fakeServices } from './testing/fake-services.ts'

function setUp() {
  const fakes = fakeServices()
  const app = createApp(fakes.services, fakeOptions)
  const ada = createClient({ url: 'http://127.0.0.1:8080', apiKey: 'vv_ada', fetch: (r) => app.fetch(r) })
  const submit = (body: object) =>
    app.request('http://127.0.0.1:8080/api/v1/tasks', {
      method: 'POST',
      headers: { authorization: 'Bearer vv_ada', 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
  return { ...fakes, ada, submit }
}

const FULL = new VivariumError('queue_full', 'At most 10 tasks can wait.', { retryAfterSeconds: 7 })

test('a full queue answers 429 and says when to come again, to whoever asks and to the client', async () => {
  const { ada, submit, tasks } = setUp()
  tasks.refusals.push(FULL, FULL)
  const response = await submit({ prompt: 'x' })
  expect([response.status, response.headers.get('retry-after')]).toEqual([429, '7'])
  expect(await response.json()).toMatchObject({ code: 'queue_full', detail: 'At most 10 tasks can wait.' })
  await expect(ada.tasks.submit({ prompt: 'x' })).rejects.toMatchObject({ code: 'queue_full', retryAfterSeconds: 7 })
})

test('what is refused for good names no time', async () => {
  const { ada, submit, tasks } = setUp()
  const large = new VivariumError('machine_too_large', 'A machine here can have at most 8 GiB.', { field: 'memoryMib' })
  tasks.refusals.push(large, large)
  expect((await submit({ prompt: 'x' })).headers.has('retry-after')).toBe(false)
  await expect(ada.tasks.submit({ prompt: 'x' })).rejects.toMatchObject({
    code: 'machine_too_large',
    field: 'memoryMib',
    retryAfterSeconds: undefined,
  })
})

test('a task says what it comes after, how often it was started, and how it stands in the queue', async () => {
  const { ada, tasks } = setUp()
  const first = await ada.tasks.submit({ prompt: 'x' })
  const next = await ada.tasks.submit({ prompt: 'y', after: [first.id], requeue: true })
  expect(tasks.requests.at(-1)).toMatchObject({ after: [first.id], requeue: true })
  expect(next).toMatchObject({ after: [first.id], requeue: true, attempts: 0, queue: null })
  const queue = { position: 4, reason: 'waiting for 2 GiB: 3 tasks ahead' }
  await tasks.status(next.id, 'queued', { queue, attempts: 1 })
  expect(await ada.tasks.get(next.id)).toMatchObject({ queue, attempts: 1 })
})

test('what comes before a task is named by task ids, and not by very many', async () => {
  const { ada } = setUp()
  const after = Array.from({ length: 101 }, () => 't_0123456789ab')
  await expect(ada.tasks.submit({ prompt: 'x', after })).rejects.toMatchObject({ field: 'after' })
  await expect(ada.tasks.submit({ prompt: 'x', after: ['../x'] })).rejects.toMatchObject({ field: 'after.0' })
})
