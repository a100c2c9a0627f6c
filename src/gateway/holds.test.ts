import { expect, test, vi } from 'vitest'
import { openTestGateway, startUpstream } from './test-gateway.ts'

const PROMPT = { model: 'claude-opus-5-5', stream: false, messages: [] }
const OK = JSON.stringify({ model: 'claude-opus-5-5', usage: { output_tokens: 1 } })

/** An API that refuses with these headers as long as `limited` says so. */
async function startLimited(headers: Record<string, string>, status = 429, type = 'rate_limit_error') {
  const state = { limited: true, requests: 0 }
  const model = await startUpstream((_request, response) => {
    state.requests += 1
    if (!state.limited) return response.writeHead(200, { 'content-type': 'application/json' }).end(OK)
    response
      .writeHead(status, { 'content-type': 'application/json', ...headers })
      .end(JSON.stringify({ type: 'error', error: { type, message: 'Out of it' } }))
  })
  return Object.assign(model, { state })
}

test('when the account says until when it takes nothing, its requests wait until then, on every machine', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'], now: new Date('2026-11-22T12:00:00Z') })
  await using stack = new AsyncDisposableStack()
  stack.defer(() => void vi.useRealTimers())
  const reset = new Date('2026-11-22T15:00:00Z')
  const model = stack.use(
    await startLimited({ 'anthropic-ratelimit-unified-reset': `${reset.getTime() / 1000}`, 'x-should-retry': 'false' }),
  )
  const gateway = stack.use(await openTestGateway(model.url))
  const first = gateway.machine()
  const second = gateway.machine({ userId: 'u_2' })
  const [client, other] = await Promise.all([first.guest(), second.guest()])

  const refused = await client.askModel(PROMPT)
  // As what the agent tries again after, and without what tells it not to.
  expect([refused.status, refused.headers['x-should-retry']]).toEqual([529, undefined])
  expect(first.holds).toEqual([{ until: reset, message: 'Out of it' }])
  expect(first.notices).toEqual([expect.stringContaining('429 rate_limit_error')])
  expect(second.holds).toEqual([])

  const waiting = [client.askModel(PROMPT), other.askModel(PROMPT)]
  await vi.waitFor(() => expect(second.holds).toHaveLength(1))
  expect(model.state.requests).toBe(1)
  model.state.limited = false
  vi.setSystemTime(reset)
  await vi.advanceTimersByTimeAsync(60_000)
  expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([200, 200])
  for (const { holds } of [first, second]) expect(holds).toEqual([{ until: reset, message: 'Out of it' }, null])
})

test('the end of a hold is told also to a machine whose guest waits no more', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'], now: new Date('2026-11-22T12:00:00Z') })
  await using stack = new AsyncDisposableStack()
  stack.defer(() => void vi.useRealTimers())
  const model = stack.use(await startLimited({ 'retry-after': '120' }, 529, 'overloaded_error'))
  const { guest, holds, session } = stack.use(await openTestGateway(model.url)).machine()
  const client = await guest()
  await client.askModel(PROMPT)
  client[Symbol.dispose]()
  expect(holds).toHaveLength(1)
  await vi.advanceTimersByTimeAsync(100_000)
  expect(holds).toHaveLength(1)
  await vi.advanceTimersByTimeAsync(50_000)
  expect(holds).toEqual([{ until: new Date('2026-11-22T12:02:00Z'), message: 'Out of it' }, null])
  await session.close()
})

test('a limit on counting tokens holds no model request', async () => {
  await using stack = new AsyncDisposableStack()
  const model = stack.use(await startLimited({ 'retry-after': '3600' }))
  const { guest, holds } = stack.use(await openTestGateway(model.url)).machine()
  const client = await guest()
  const counting = await client.askModel(PROMPT, { ':path': '/v1/messages/count_tokens' })
  expect(counting).toMatchObject({ status: 429, headers: { 'retry-after': '3600' } })
  model.state.limited = false
  expect((await client.askModel(PROMPT)).status).toBe(200)
  expect(holds).toEqual([])
})

test('a short wait is passed on as it is, and noted', async () => {
  await using stack = new AsyncDisposableStack()
  const model = stack.use(await startLimited({ 'retry-after': '7' }))
  const { guest, holds, notices, usages } = stack.use(await openTestGateway(model.url)).machine()
  const answer = await (await guest()).askModel(PROMPT)
  expect(answer).toMatchObject({ status: 429, headers: { 'retry-after': '7' } })
  expect(JSON.parse(answer.body)).toMatchObject({ error: { type: 'rate_limit_error', message: 'Out of it' } })
  expect([holds, usages]).toEqual([[], []])
  expect(notices).toEqual(["The model's API answered 429 rate_limit_error: Out of it"])
})

test('a machine that ends while its requests are held ends at once', async () => {
  await using stack = new AsyncDisposableStack()
  const model = stack.use(await startLimited({ 'retry-after': '3600' }))
  const { guest, holds, session } = stack.use(await openTestGateway(model.url)).machine()
  const client = await guest()
  await client.askModel(PROMPT)
  const held = client.askModel(PROMPT).catch(() => 'gone')
  await expect.poll(() => holds.length).toBe(1)
  await session.close()
  expect(await held).toBe('gone')
  expect(model.state.requests).toBe(1)
})

test('a clock that is set back does not hold an account for longer than it said', async () => {
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'],
    now: new Date('2026-11-22T12:00:00Z'),
  })
  await using stack = new AsyncDisposableStack()
  stack.defer(() => void vi.useRealTimers())
  const model = stack.use(await startLimited({ 'retry-after': '120' }, 529, 'overloaded_error'))
  const { guest, holds } = stack.use(await openTestGateway(model.url)).machine()
  const client = await guest()
  await client.askModel(PROMPT)
  vi.setSystemTime(new Date('2026-11-22T02:00:00Z'))
  const waiting = client.askModel(PROMPT)
  model.state.limited = false
  await vi.advanceTimersByTimeAsync(150_000)
  expect((await waiting).status).toBe(200)
  expect(holds.at(-1)).toBeNull()
})
