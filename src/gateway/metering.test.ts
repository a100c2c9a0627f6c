import { once } from 'node:events'
import { expect, test } from 'vitest'
import { openTestGateway, startHeldUpstream, startUpstream } from './test-gateway.ts'
import { MODEL_REQUEST } from './test-guest.ts'
import { createUsage } from './usage.ts'

const BODY = JSON.stringify({
  model: 'claude-opus-5-5',
  stream: true,
  max_tokens: 64_000,
  messages: ['x'.repeat(2900)],
})

const event = (data: { type: string }) => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
const START = event({
  type: 'message_start',
  message: { model: 'claude-opus-5-5', usage: { input_tokens: 1000 } },
} as never)
const END = event({ type: 'message_delta', usage: { output_tokens: 42 } } as never) + event({ type: 'message_stop' })

async function openSilent(stack: AsyncDisposableStack) {
  const { url, asked } = stack.use(await startHeldUpstream())
  const next = async (count = 1) => {
    await expect.poll(() => asked.length).toBe(count)
    const response = asked.at(-1)
    if (response === undefined) throw new Error('nothing was asked')
    return response
  }
  return { gateway: stack.use(await openTestGateway(url)), next }
}

test('an answer whose guest has left before or after its begin is still read to its end and counted exactly', async () => {
  await using stack = new AsyncDisposableStack()
  const { gateway, next } = await openSilent(stack)
  const { guest, usages } = gateway.machine()
  const client = await guest()

  const before = client.send(MODEL_REQUEST, BODY)
  const first = await next()
  before.close()
  await once(before, 'close')
  first.writeHead(200, { 'content-type': 'text/event-stream' }).end(START + END)
  await expect.poll(() => usages).toMatchObject([{ inputTokens: 1000, outputTokens: 42, complete: true, status: 200 }])

  const after = client.send(MODEL_REQUEST, BODY)
  const second = await next(2)
  second.writeHead(200, { 'content-type': 'text/event-stream' }).write(START)
  await once(after, 'data')
  after.close()
  await once(after, 'close')
  second.end(END)
  await expect.poll(() => usages).toMatchObject([{}, { inputTokens: 1000, outputTokens: 42, complete: true }])
})

test('an answer that never comes is counted at the upper bound: a token for three bytes, and all output where it comes in a piece', async () => {
  await using stack = new AsyncDisposableStack()
  const { gateway, next } = await openSilent(stack)
  const { session, guest, usages } = gateway.machine()
  const client = await guest()

  const cut = client.ask(MODEL_REQUEST, BODY)
  ;(await next()).destroy()
  expect((await cut).status).toBe(502)
  const inputTokens = Math.ceil(BODY.length / 3)
  const streamed = { model: 'claude-opus-5-5', inputTokens, outputTokens: 0, complete: false, status: 0 }
  await session.settled()
  expect(usages).toMatchObject([{ ...streamed, costUsd: expect.closeTo((inputTokens * 4) / 1e6, 10) }])

  client.send(MODEL_REQUEST, BODY.replace('true', 'false'))
  await next(2)
  await session.close()
  expect(usages[1]).toMatchObject({ outputTokens: 64_000, complete: false })
  const rows = await createUsage(gateway.database).query({ by: 'model' })
  expect(rows).toMatchObject([{ key: 'claude-opus-5-5', requests: 2, incomplete: 2, unpriced: 0 }])
})

test('what was not sent whole, or was refused, costs nothing', async () => {
  await using stack = new AsyncDisposableStack()
  const { gateway, next } = await openSilent(stack)
  const { session, guest, usages } = gateway.machine()
  const client = await guest()
  const half = client.http2.request(MODEL_REQUEST).on('error', () => undefined)
  half.write(BODY)
  half.close()
  const refused = client.ask(MODEL_REQUEST, BODY)
  ;(await next()).writeHead(500).end('{}')
  expect((await refused).status).toBe(500)
  await session.close()
  expect(usages).toEqual([])
  expect(session.totals()).toMatchObject({ costUsd: 0, requests: 0 })
})

test("requests belong to the conversation and the subagent that they name; other names than Claude Code's are not kept", async () => {
  await using stack = new AsyncDisposableStack()
  const answer = event({ type: 'message_stop' })
  const model = stack.use(
    await startUpstream((_request, response) =>
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end(START + answer),
    ),
  )
  const gateway = stack.use(await openTestGateway(model.url))
  const { session, guest } = gateway.machine({ taskId: 't_agents' })
  const client = await guest()
  const ask = (agent?: string) =>
    client.ask(
      { ...MODEL_REQUEST, 'x-claude-code-session-id': 'c0ffee-1', ...(agent && { 'x-claude-code-agent-id': agent }) },
      BODY,
    )
  await ask()
  await ask('a1')
  await ask('a1')
  await ask('<script>')
  await session.close()
  const usage = createUsage(gateway.database)
  const rows = await usage.query({ by: 'agent', taskId: 't_agents' })
  expect(rows.map(({ key, requests }) => [key, requests])).toEqual(
    expect.arrayContaining([
      ['main', 2],
      ['a1', 2],
    ]),
  )
  expect(await usage.query({ by: 'agent', taskId: 't_other' })).toEqual([])
  expect(await usage.query({ by: 'day', split: 'model' })).toMatchObject([{ split: 'claude-opus-5-5', requests: 4 }])
  const stored = await gateway.database.selectFrom('usageRecords').select('sessionId').distinct().execute()
  expect(stored).toEqual([{ sessionId: 'c0ffee-1' }])
})
