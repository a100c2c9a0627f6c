import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { createClient } from '../client/client.ts'
import { followTask } from '../client/follow.ts'
import { createHttp } from '../client/http.ts'
import { TaskEvent } from '../contracts/event.ts'
import { createApp } from './app.ts'
import { listen } from './listen.ts'
import { fakeOptions, fakeServices } from './testing/fake-services.ts'
import type { ApiOptions } from './types.ts'

let stack = new AsyncDisposableStack()
afterEach(() => stack.disposeAsync())

async function setUp(options: Partial<ApiOptions> = {}) {
  stack = new AsyncDisposableStack()
  const fakes = fakeServices()
  const app = createApp(fakes.services, { ...fakeOptions, ...options })
  const server = stack.use(await listen(app.fetch, { host: '127.0.0.1', port: 0 }))
  const client = createClient({ url: server.url, apiKey: 'vv_ada' })
  const { id } = await client.tasks.submit({ prompt: 'x' })
  const { log } = fakes
  const say = (...texts: string[]) =>
    log.append(
      id,
      texts.map((text) => ({ type: 'text', text })),
    )
  const finish = () => fakes.tasks.finish(id)
  const socketTo = (path: string, headers: Record<string, string> = {}) => {
    const socket = new WebSocket(server.url.replace('http', 'ws') + path, {
      headers: { authorization: 'Bearer vv_ada', ...headers },
    })
    stack.defer(() => socket.terminate())
    return socket
  }
  const stream = (from = 1) => socketTo(`/api/v1/tasks/${id}/stream?from=${from}`)
  return { ...fakes, server, client, id, say, finish, socketTo, stream }
}

/** Everything a socket receives, and how it was closed. */
async function collect(socket: WebSocket): Promise<{ events: TaskEvent[]; code: number }> {
  const events: TaskEvent[] = []
  socket.on('message', (data) => events.push(TaskEvent.parse(JSON.parse(String(data)))))
  const [code] = await once(socket, 'close')
  return { events, code: Number(code) }
}

test('a WebSocket opened before, during or after a task, SSE and JSON all give exactly the same events', async () => {
  const { client, id, say, finish, stream } = await setUp()
  const before = stream()
  const beforeAll = collect(before)
  const followed = Array.fromAsync(client.tasks.follow(id))
  await once(before, 'open')
  await say('one', 'two')
  const during = collect(stream())
  await say('three')
  await finish()
  const after = collect(stream())
  const { items } = await client.tasks.events(id)
  expect(items.map((event) => event.seq)).toEqual([1, 2, 3, 4, 5])
  for (const result of [beforeAll, during, after]) expect(await result).toEqual({ events: items, code: 1000 })
  expect(await followed).toEqual(items)
  expect((await collect(stream(4))).events).toEqual(items.slice(3))
  expect(await Array.fromAsync(client.tasks.follow(id, { from: 4 }))).toEqual(items.slice(3))
  expect(await Array.fromAsync(client.tasks.follow(id, { from: 6 }))).toEqual([])
})

test('a WebSocket reader that takes nothing delays nobody, and still gets everything', async () => {
  const { client, id, log, finish, stream } = await setUp()
  const slow = stream()
  const events = collect(slow)
  await once(slow, 'open')
  slow.pause()
  const fast = Array.fromAsync(client.tasks.follow(id))
  const text = 'x'.repeat(100_000)
  for (let n = 0; n < 200; n++) await log.append(id, [{ type: 'text', text }])
  await finish()
  const seqs = (all: TaskEvent[]) => all.map((event) => event.seq)
  expect(seqs(await fast)).toEqual(Array.from({ length: 202 }, (_, index) => index + 1))
  slow.resume()
  expect(seqs((await events).events)).toEqual(seqs(await fast))
})

test('what a slow WebSocket reader has not taken stays in the log, not in memory', async () => {
  const { id, log, services, say, finish, stream } = await setUp()
  let taken = 0
  const follow = log.followJson.bind(log)
  services.events.followJson = async function* (...args) {
    for await (const event of follow(...args)) {
      taken += 1
      yield event
    }
  }
  const slow = stream()
  await once(slow, 'open')
  slow.pause()
  const text = 'x'.repeat(1_000_000)
  for (let n = 0; n < 50; n++) await say(text)
  await finish()
  // The kernel's buffers take some megabytes; without back-pressure all fifty would have been read.
  await expect.poll(() => taken).toBeGreaterThan(1)
  const settled = taken
  await say('later')
  expect(taken).toBe(settled)
  expect(taken).toBeLessThan(30)
  expect(log.readers).toBe(1)
  expect(id).toMatch(/^t_/)
})

test('a reader that leaves frees its cursor at once', async () => {
  const { client, id, log, server, stream } = await setUp()
  const socket = stream()
  await once(socket, 'open')
  for await (const event of client.tasks.follow(id)) {
    expect(log.readers).toBe(2)
    expect(event.seq).toBe(1)
    break
  }
  socket.terminate()
  await log.noReaders()
  const raw = connect(server.port, '127.0.0.1')
  raw.write(
    `GET /api/v1/tasks/${id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nAuthorization: Bearer vv_ada\r\n\r\n`,
  )
  await once(raw, 'data')
  await expect.poll(() => log.readers).toBe(1)
  raw.destroy()
  await log.noReaders()
})

test('a quiet stream shows signs of life', async () => {
  const { server, id } = await setUp({ heartbeatMs: 20 })
  const response = await fetch(`${server.url}/api/v1/tasks/${id}/events?from=2`, {
    headers: { accept: 'text/event-stream', authorization: 'Bearer vv_ada' },
  })
  let text = ''
  for await (const chunk of response.body ?? []) {
    text += Buffer.from(chunk).toString()
    if (text.split(': heartbeat').length > 3) break
  }
  expect(text).toContain('retry: 1000')
})

test('Last-Event-ID goes on behind that event, and nonsense in it is ignored', async () => {
  const { server, id, say, finish } = await setUp()
  await say('a', 'b')
  await finish()
  const ask = async (lastEventId: string) => {
    const response = await fetch(`${server.url}/api/v1/tasks/${id}/events`, {
      headers: { accept: 'text/event-stream', authorization: 'Bearer vv_ada', 'last-event-id': lastEventId },
    })
    return [...(await response.text()).matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1]))
  }
  expect(await ask('2')).toEqual([3, 4])
  expect(await ask('nonsense')).toEqual([1, 2, 3, 4])
})

test('a follower whose connection breaks goes on where it broke', async () => {
  const { server, id, say, finish } = await setUp()
  let connections = 0
  const http = createHttp({
    url: server.url,
    apiKey: 'vv_ada',
    async fetch(request) {
      connections += 1
      const response = await fetch(request)
      return connections > 3 ? response : new Response(cutAfterOneEvent(response))
    },
  })
  await say('a', 'b', 'c', 'd')
  await finish()
  const events = await Array.fromAsync(followTask(http, id, { from: 1, signal: undefined, backoffMs: [1] }))
  expect(events.map((event) => event.seq)).toEqual([1, 2, 3, 4, 5, 6])
  expect(connections).toBe(4)
})

/** The body of a stream up to its first event, then an error. */
function cutAfterOneEvent(response: Response): ReadableStream<Uint8Array> {
  const source = response.body ?? new ReadableStream<Uint8Array>()
  let text = ''
  return source.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        text += Buffer.from(chunk).toString()
        const match = /^(?:retry: 1000\n\n)?id: \d+\ndata: .*\n\n/.exec(text)
        if (match === null) return
        controller.enqueue(Buffer.from(match[0]))
        setTimeout(() => controller.error(new Error('cable pulled')), 1)
      },
    }),
  )
}

test('a follower gives up on a server that stays away, and says so', async () => {
  const { server, id } = await setUp()
  const http = createHttp({ url: server.url, apiKey: 'vv_ada' })
  const follower = followTask(http, id, { from: 1, signal: undefined, backoffMs: [1, 1] })
  await follower.next()
  await server.close()
  await expect(follower.next()).rejects.toMatchObject({
    code: 'setup_required',
    message: expect.stringContaining('vivarium serve'),
  })
})

test('WebSockets pass the same gate as every request', async () => {
  const { id, socketTo } = await setUp()
  const path = `/api/v1/tasks/${id}/stream`
  const refused = async (socket: WebSocket) => {
    const [error] = await once(socket, 'error')
    return String(error)
  }
  expect(await refused(socketTo(path, { authorization: '' }))).toContain('401')
  expect(await refused(socketTo(path, { origin: 'http://evil.example' }))).toContain('403')
  expect(await refused(socketTo(path, { host: 'evil.example' }))).toContain('403')
  expect(await refused(socketTo(path, { authorization: 'Bearer vv_owner' }))).toContain('404')
  expect(await refused(socketTo(`${path}?from=0`))).toContain('400')
  expect(await refused(socketTo('/api/v1/tasks'))).toContain('Unexpected server response')
  const cookie = socketTo(path, { authorization: '', cookie: 'vivarium_key=vv_ada' })
  await once(cookie, 'open')
})

test('a port that is taken is a conflict, or exchanged for a free one when told so', async () => {
  const { server, services } = await setUp()
  const app = createApp(services, fakeOptions)
  const address = { host: '127.0.0.1', port: server.port }
  await expect(listen(app.fetch, address)).rejects.toMatchObject({ code: 'conflict' })
  const other = stack.use(await listen(app.fetch, address, { anyPort: true }))
  expect(other.port).not.toBe(server.port)
  expect((await fetch(`${other.url}/health`)).status).toBe(200)
})

test('a server that stops ends its streams, with a code that tells clients to come back', async () => {
  const { server, stream } = await setUp()
  const socket = stream()
  await once(socket, 'open')
  const closed = collect(socket)
  await server.close()
  expect((await closed).code).toBe(1012)
})
