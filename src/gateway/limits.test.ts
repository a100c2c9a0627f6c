import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { DEFAULT_LIMITS } from './limits.ts'
import { openTestGateway, startUpstream } from './test-gateway.ts'
import { MODEL_REQUEST } from './test-guest.ts'

const BODY = JSON.stringify({ model: 'claude-opus-5-5', padding: 'x'.repeat(100_000) })
const ANSWER = JSON.stringify({ model: 'claude-opus-5-5', usage: {}, padding: 'y'.repeat(100_000) })

async function open(stack: AsyncDisposableStack, limits: Partial<typeof DEFAULT_LIMITS>) {
  const bodies: string[] = []
  const model = stack.use(
    await startUpstream(async (request, response) => {
      bodies.push(await text(request))
      response.writeHead(200, { 'content-type': 'application/json' }).end(ANSWER)
    }),
  )
  const gateway = stack.use(await openTestGateway(model.url, { limits: { ...DEFAULT_LIMITS, ...limits } }))
  return { bodies, client: await gateway.machine().guest() }
}

test('requests beyond a minute’s number are answered 429, and reach nobody', async () => {
  await using stack = new AsyncDisposableStack()
  const { bodies, client } = await open(stack, { requestsPerMinute: 3 })
  const answers = await Promise.all(Array.from({ length: 6 }, () => client.ask(MODEL_REQUEST, BODY)))
  expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 200, 200, 429, 429, 429])
  expect(answers.find(({ status }) => status === 429)?.body).toContain('limits.requestsPerMinute')
  expect(bodies).toHaveLength(3)
})

test('what goes in and out of a slowed-down machine arrives whole', async () => {
  await using stack = new AsyncDisposableStack()
  const { bodies, client } = await open(stack, { mbitPerSecond: 50 })
  const answers = await Promise.all(Array.from({ length: 5 }, () => client.ask(MODEL_REQUEST, BODY)))
  expect(answers.every(({ body }) => body === ANSWER)).toBe(true)
  expect(bodies).toEqual(Array.from({ length: 5 }, () => BODY))
})

test('a machine has no more connections at once than it may', async () => {
  await using stack = new AsyncDisposableStack()
  const { client } = await open(stack, { connections: 2 })
  // What the gateway says of itself, so that a guest's own client waits instead of being refused.
  await expect.poll(() => client.http2.remoteSettings.maxConcurrentStreams).toBe(2)
  const answers = await Promise.all(Array.from({ length: 6 }, () => client.ask(MODEL_REQUEST, BODY)))
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200])
})
