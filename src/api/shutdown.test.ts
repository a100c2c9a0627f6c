import { once } from 'node:events'
import { afterEach, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { createClient } from '../client/client.ts'
import { followTask } from '../client/follow.ts'
import { createHttp } from '../client/http.ts'
import { VivariumError } from '../contracts/errors.ts'
import { createApp } from './app.ts'
import { listen } from './listen.ts'
import { fakeOptions, fakeServices } from './testing/fake-services.ts'

const STOPPING = new VivariumError('shutting_down', 'The server is shutting down.')

let stack = new AsyncDisposableStack()
afterEach(() => stack.disposeAsync())

async function setUp() {
  stack = new AsyncDisposableStack()
  const fakes = fakeServices()
  const server = stack.use(await listen(createApp(fakes.services, fakeOptions).fetch, { host: '127.0.0.1', port: 0 }))
  const client = createClient({ url: server.url, apiKey: 'vv_ada' })
  const ask = (path: string, init: RequestInit = {}) =>
    fetch(`${server.url}/api/v1${path}`, {
      ...init,
      headers: { authorization: 'Bearer vv_ada', 'content-type': 'application/json' },
    })
  return { ...fakes, server, client, ask }
}

test('a server that drains begins nothing new, and says when to ask again', async () => {
  const { client, ask, shutdown, errors } = await setUp()
  const machine = await client.vms.create()
  const { id } = await client.tasks.submit({ prompt: 'x' })
  shutdown.draining.abort(STOPPING)
  const refused = await ask('/tasks', { method: 'POST', body: '{"prompt":"x"}' })
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5'])
  expect(await refused.json()).toMatchObject({ code: 'shutting_down' })
  for (const path of [`/tasks/${id}/fork`, '/uploads', '/vms', `/vms/${machine.id}/exec`, '/templates'])
    expect((await ask(path, { method: 'POST', body: '{}' })).status).toBe(503)
  await expect(client.vms.shell(machine.id)).rejects.toMatchObject({ code: 'shutting_down' })
  expect((await ask('/ready')).status).toBe(503)
  // What is there can be looked at, stopped and removed.
  expect((await ask('/health')).status).toBe(200)
  expect((await client.tasks.get(id)).status).toBe('queued')
  expect(await client.vms.suspend(machine.id)).toMatchObject({ state: 'suspended' })
  expect((await client.tasks.cancel(id)).status).toBe('cancelled')
  await client.vms.destroy(machine.id)
  await client.tasks.remove(id)
  expect(new Set(errors.map(({ code }) => code))).toEqual(new Set(['shutting_down']))
})

test('a command or shell under way when the server goes is given up, and its client told why', async () => {
  const { client, machines, shutdown } = await setUp()
  const { id } = await client.vms.create()
  const output = client.vms.execStream(id, { command: 'hang' })[Symbol.asyncIterator]()
  await output.next()
  const socket = new WebSocket(`${client.url.replace('http', 'ws')}/api/v1/vms/${id}/shell`, {
    headers: { authorization: 'Bearer vv_ada' },
  })
  await once(socket, 'open')
  const shell = await machines.nextShell()
  const closed = once(socket, 'close')
  shutdown.ending.abort(STOPPING)
  await expect(output.next()).rejects.toMatchObject({ code: 'shutting_down' })
  expect(machines.killed).toBe(1)
  expect((await closed)[0]).toBe(1012)
  await shell.closed
})

test('a follower that meets a server on its way out asks again', async () => {
  const { client, server, log, tasks, shutdown } = await setUp()
  const { id } = await client.tasks.submit({ prompt: 'x' })
  let asked = 0
  const http = createHttp({
    url: server.url,
    apiKey: 'vv_ada',
    async fetch(request) {
      asked += 1
      if (asked > 1) return fetch(request)
      const problem = { type: '', title: '', status: 503, code: 'shutting_down', detail: 'in a moment' }
      return new Response(JSON.stringify(problem), { status: 503 })
    },
  })
  await log.append(id, [{ type: 'text', text: 'one' }])
  await tasks.finish(id)
  const events = await Array.fromAsync(followTask(http, id, { from: 1, signal: undefined, backoffMs: [1] }))
  expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3])
  expect(shutdown.draining.signal.aborted).toBe(false)
})
