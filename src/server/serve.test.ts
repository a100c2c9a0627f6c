import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { createClient } from '../client/client.ts'
import { loadConfig } from '../config/load.ts'
import type { TaskEvent } from '../contracts/event.ts'
import { isLocked } from './lock.ts'
import { quietHost, type Host } from './testing/server-process.ts'

let host: Host
beforeEach(async () => {
  host = await quietHost()
})
afterEach(() => host[Symbol.asyncDispose]())

/** What a server must have taken back when it is gone. */
function expectNothingLeft(): void {
  expect(existsSync(join(host.home, 'server.json'))).toBe(false)
  expect(isLocked(host.home)).toBe(false)
  expect(existsSync(loadConfig({}, undefined, { VIVARIUM_HOME: host.home }).config.runDir)).toBe(false)
}

/** A client, and two tasks: one at work, as far as it comes here, and one in the queue. */
async function withTasks({ url, key }: { url: string; key: string }) {
  const client = createClient({ url, apiKey: key })
  const first = await client.tasks.submit({ prompt: 'true', agent: 'shell' })
  await expect.poll(async () => (await client.tasks.get(first.id)).status).toBe('starting')
  const waiting = await client.tasks.submit({ prompt: 'true', agent: 'shell' })
  return { client, first, waiting }
}

test('the first signal: streams are told to come back, calls are answered, and all is given back; exit 0', async () => {
  const server = host.start()
  const { url, key } = await server.endpoint()
  const { first, waiting } = await withTasks({ url, key })
  const authorization = `Bearer ${key}`
  const path = `/api/v1/tasks/${waiting.id}`

  const socket = new WebSocket(`${url.replace('http', 'ws')}${path}/stream`, { headers: { authorization } })
  const closed = once(socket, 'close')
  await once(socket, 'message')
  const headers = { authorization, accept: 'text/event-stream' }
  const sse = await fetch(`${url}${path}/events`, { headers })
  const ofFirst = await fetch(`${url}/api/v1/tasks/${first.id}/events`, { headers })
  const mcp = new Client({ name: 'test', version: '1' })
  await mcp.connect(
    new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit: { headers: { authorization } } }),
  )
  let isWaiting = false
  const call = mcp.callTool(
    { name: 'wait_for_task', arguments: { task_id: waiting.id, wait_seconds: 3600 } },
    { onprogress: () => (isWaiting = true) },
  )
  await expect.poll(() => isWaiting).toBe(true)

  server.child.kill('SIGTERM')
  const [code, reason] = await closed
  expect([code, String(reason)]).toEqual([1012, 'the server restarts: ask again from the next seq'])
  const text = await sse.text()
  expect(text).toMatch(/^id: 1$/m)
  expect(text).toMatch(/\nretry: 1000\n: the server restarts: ask again with Last-Event-ID\n\n$/)
  expect(await ofFirst.text()).not.toBe('')
  expect((await call).structuredContent).toMatchObject({ task_id: waiting.id, status: 'queued', done: false })
  expect(await server.ended).toBe(0)
  expectNothingLeft()
  await mcp.close()
})

test('a follower goes on with its cursor when the server is there again', async () => {
  const server = host.start()
  const { url, key } = await server.endpoint()
  const { client, waiting } = await withTasks({ url, key })
  const events: TaskEvent[] = []
  const following = (async () => {
    for await (const event of client.tasks.follow(waiting.id)) events.push(event)
  })()
  await expect.poll(() => events.length).toBeGreaterThan(0)
  server.child.kill('SIGTERM')
  expect(await server.ended).toBe(0)

  const again = host.start({ VIVARIUM_LISTEN: new URL(url).host })
  await again.endpoint()
  expect((await client.tasks.get(waiting.id)).status).toMatch(/queued|starting/)
  await client.tasks.cancel(waiting.id)
  await following
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1))
  expect(events).toEqual((await client.tasks.events(waiting.id)).items)
  expect(events.at(-1)).toMatchObject({ type: 'status', status: 'cancelled' })
  again.child.kill('SIGINT')
  expect(await again.ended).toBe(0)
  expectNothingLeft()
})

test.each([
  ['SIGTERM', 143],
  ['SIGINT', 130],
] as const)(
  'the second signal, %s, ends it at once; what was accepted is there at the next start',
  async (signal, code) => {
    const server = host.start()
    const { url, key } = await server.endpoint()
    const { waiting } = await withTasks({ url, key })
    // A request that does not come to its end holds the first signal up for a moment.
    const { port, hostname } = new URL(url)
    const slow = connect(Number(port), hostname)
    slow.on('error', () => {})
    slow.write(
      `POST /api/v1/uploads HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/x-tar\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n`,
    )
    await once(slow, 'data')
    server.child.kill('SIGTERM')
    await server.says('stopping')
    server.child.kill(signal)
    expect(await server.ended).toBe(code)
    slow.destroy()
    expect(existsSync(join(host.home, 'server.json'))).toBe(false)
    expect(isLocked(host.home)).toBe(false)

    const again = host.start()
    const client = createClient({ url: (await again.endpoint()).url, apiKey: key })
    expect((await client.tasks.get(waiting.id)).status).toMatch(/queued|starting/)
    again.child.kill('SIGTERM')
    expect(await again.ended).toBe(0)
    expectNothingLeft()
  },
)
