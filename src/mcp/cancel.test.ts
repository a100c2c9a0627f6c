import { expect, test } from 'vitest'
import { setUpMcp } from './testing/set-up.ts'

/** Calls run_task and resolves once its task exists; `leave` aborts the call as the era does it. */
async function running(
  mcp: Awaited<ReturnType<typeof setUpMcp>>,
  transport: 'http' | 'stdio',
  era: 'legacy' | 'modern',
) {
  const client = await mcp.connect(transport, era)
  const abort = new AbortController()
  let named: string | undefined
  const call = client.callTool(
    { name: 'run_task', arguments: { prompt: 'x' } },
    { signal: abort.signal, onprogress: ({ message }) => (named ??= message) },
  )
  const ended = call.then(
    () => 'answered',
    () => 'aborted',
  )
  const { id } = await mcp.tasks.submitted()
  await expect.poll(() => named).toContain(id)
  return { client, id, ended, leave: () => abort.abort('enough') }
}

test.each([
  ['stdio', 'legacy'],
  ['stdio', 'modern'],
  ['http', 'legacy'],
] as const)('an explicit cancellation over %s, %s era, stops the task at once', async (transport, era) => {
  await using mcp = await setUpMcp()
  const { id, ended, leave } = await running(mcp, transport, era)
  leave()
  await mcp.tasks.cancellation(id)
  expect(await ended).toBe('aborted')
})

test('a cancellation means the call of its own session, not one with the same number elsewhere', async () => {
  await using mcp = await setUpMcp()
  const mine = await running(mcp, 'http', 'legacy')
  const headers = {
    authorization: 'Bearer vv_ada',
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-session-id': 'another',
  }
  for (let requestId = 0; requestId < 10; requestId++) {
    const body = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId } })
    expect((await fetch(`${mcp.server.url}/mcp`, { method: 'POST', headers, body })).status).toBe(202)
  }
  expect(mcp.tasks.cancelled).toEqual([])
  await mcp.tasks.finish(mine.id)
  expect(await mine.ended).toBe('answered')
})

test('a connection that breaks leaves a grace period, after which the task is stopped', async () => {
  await using mcp = await setUpMcp({ graceMs: 100 })
  const { id, leave } = await running(mcp, 'http', 'modern')
  leave()
  await mcp.log.noReaders()
  expect(mcp.tasks.cancelled).toEqual([])
  await mcp.tasks.cancellation(id)
})

test('a connection of the earlier era that breaks leaves a grace period too', async () => {
  await using mcp = await setUpMcp({ graceMs: 100 })
  const abort = new AbortController()
  const response = await fetch(`${mcp.server.url}/mcp`, {
    method: 'POST',
    signal: abort.signal,
    headers: {
      authorization: 'Bearer vv_ada',
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-session-id': 'mine',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'run_task', arguments: { prompt: 'x' } },
    }),
  })
  expect(response.status).toBe(200)
  const { id } = await mcp.tasks.submitted()
  await expect.poll(() => mcp.log.readers).toBe(1)
  abort.abort()
  await mcp.log.noReaders()
  expect(mcp.tasks.cancelled).toEqual([])
  await mcp.tasks.cancellation(id)
})

test('within the grace period wait_for_task takes over, and returns the end of the task', async () => {
  await using mcp = await setUpMcp()
  const { client, id, leave } = await running(mcp, 'http', 'modern')
  leave()
  await mcp.log.noReaders()
  const waiting = client.callTool({ name: 'wait_for_task', arguments: { task_id: id } })
  await expect.poll(() => mcp.log.readers).toBe(1)
  await mcp.tasks.finish(id)
  expect((await waiting).structuredContent).toMatchObject({ task_id: id, status: 'succeeded', done: true })
  expect(mcp.tasks.cancelled).toEqual([])
})

test('who took a task over owns it: its cancellation stops the task at once', async () => {
  await using mcp = await setUpMcp()
  const { id, leave } = await running(mcp, 'http', 'modern')
  leave()
  await mcp.log.noReaders()
  const heir = await mcp.connect('http', 'legacy')
  const abort = new AbortController()
  const waiting = heir.callTool({ name: 'wait_for_task', arguments: { task_id: id } }, { signal: abort.signal })
  await expect.poll(() => mcp.log.readers).toBe(1)
  abort.abort('enough')
  await expect(waiting).rejects.toThrow('enough')
  await mcp.tasks.cancellation(id)
})

test('who took a task over and vanishes too leaves it a grace period again', async () => {
  await using mcp = await setUpMcp({ graceMs: 1000 })
  const { client, id, leave } = await running(mcp, 'http', 'modern')
  leave()
  await mcp.log.noReaders()
  const abort = new AbortController()
  const waiting = client.callTool({ name: 'wait_for_task', arguments: { task_id: id } }, { signal: abort.signal })
  await expect.poll(() => mcp.log.readers).toBe(1)
  abort.abort('gone')
  await expect(waiting).rejects.toThrow('gone')
  await mcp.tasks.cancellation(id)
})

test.each(['legacy', 'modern'] as const)(
  'a wait that breaks off, %s era, never stops a task that was started to go on by itself',
  async (era) => {
    await using mcp = await setUpMcp({ graceMs: 0 })
    const client = await mcp.connect('http', era)
    await client.callTool({ name: 'start_task', arguments: { prompt: 'x' } })
    const { id } = await mcp.tasks.submitted()
    const abort = new AbortController()
    const waiting = client.callTool({ name: 'wait_for_task', arguments: { task_id: id } }, { signal: abort.signal })
    await expect.poll(() => mcp.log.readers).toBe(1)
    abort.abort('gone')
    await expect(waiting).rejects.toThrow('gone')
    await mcp.log.noReaders()
    const status = await client.callTool({ name: 'get_task_status', arguments: { task_id: id } })
    expect(status.structuredContent).toMatchObject({ status: 'queued' })
    expect(mcp.tasks.cancelled).toEqual([])
  },
)

test.each(['legacy', 'modern'] as const)(
  'a task that has ended, %s era, is not cancelled by the end of its own call',
  async (era) => {
    await using mcp = await setUpMcp({ graceMs: 0 })
    const client = await mcp.connect('http', era)
    const call = client.callTool({ name: 'run_task', arguments: { prompt: era } })
    const { id } = await mcp.tasks.submitted()
    await mcp.tasks.finish(id)
    expect((await call).structuredContent).toMatchObject({ status: 'succeeded' })
    await client.callTool({ name: 'get_task_status', arguments: { task_id: id } })
    expect(mcp.tasks.cancelled).toEqual([])
  },
)

test('the first byte of an answer comes at once, whatever the client listens to', async () => {
  await using mcp = await setUpMcp()
  const abort = new AbortController()
  const response = await fetch(`${mcp.server.url}/mcp`, {
    method: 'POST',
    signal: abort.signal,
    headers: {
      authorization: 'Bearer vv_ada',
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': 'run_task',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: {
        name: 'run_task',
        arguments: { prompt: 'x' },
        _meta: {
          'io.modelcontextprotocol/protocolVersion': '2026-07-28',
          'io.modelcontextprotocol/clientCapabilities': {},
          'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
        },
      },
    }),
  })
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
  abort.abort()
})

test('MCP is closed to callers without a key, who are told so in JSON', async () => {
  await using mcp = await setUpMcp()
  const response = await fetch(`${mcp.server.url}/mcp`, { method: 'POST', body: '{}' })
  expect([response.status, response.headers.get('content-type')]).toEqual([401, 'application/problem+json'])
  expect(response.headers.get('www-authenticate')).not.toContain('resource_metadata')
  await expect(mcp.connect('http', 'legacy', 'vv_wrong')).rejects.toThrow('401')
})
