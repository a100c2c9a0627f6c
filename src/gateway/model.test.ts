import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ScriptInput } from '../../scripted-model/script.ts'
import { startScriptedModel, type ScriptedModel } from '../../scripted-model/server.ts'
import { openDatabase, type Database } from '../store/database.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import { createLogger } from '../telemetry/logger.ts'
import { vaultCredentials } from './credentials.ts'
import { createGateway } from './gateway.ts'
import { answerOn, connectGuest, MODEL_REQUEST } from './test-guest.ts'
import { testSecrets } from './test-secrets.ts'
import type { EgressContext, ModelUsage } from './types.ts'
import { createUsage } from './usage.ts'

const SECRET = 'sk-ant-host-secret'
const SAY = (text: string) => [{ type: 'text' as const, text }]
const PROMPT = (content: string, stream = true) => ({
  model: 'claude-opus-5-5',
  stream,
  messages: [{ role: 'user', content }],
})

const SCRIPT: ScriptInput = {
  conversations: [
    { when: 'cut', turns: [{ blocks: SAY('never to be finished'), fault: { kind: 'cut', afterEvents: 4 } }] },
    { when: 'hang', turns: [{ blocks: SAY('never to be finished'), fault: { kind: 'hang', afterEvents: 4 } }] },
    {
      when: 'busy',
      turns: [
        {
          fault: {
            kind: 'status',
            status: 529,
            type: 'overloaded_error',
            message: 'Overloaded',
            headers: { 'retry-after': '7' },
          },
        },
      ],
    },
    { when: '', turns: [{ blocks: SAY('hello guest') }] },
  ],
}

let database: Database
let model: ScriptedModel
let stack: AsyncDisposableStack

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  database = await openDatabase(':memory:')
  stack.defer(() => database.destroy())
  model = stack.use(await startScriptedModel({ script: SCRIPT, requireKey: SECRET }))
})

afterEach(() => stack.disposeAsync())

type Given = { upstream?: string; apiKey?: string | undefined; oauthToken?: string } & Partial<EgressContext>

/** A machine's session on a gateway of its own, with everything it reports. */
function open({ upstream, apiKey, oauthToken, ...context }: Given = { apiKey: SECRET }) {
  const usages: ModelUsage[] = []
  const errors: { status: number; type: string; message: string }[] = []
  const gateway = createGateway({
    config: { anthropic: { upstream: upstream ?? model.url }, network: { allow: [] } },
    database,
    storage: SOUND_STORAGE,
    credentials: vaultCredentials(testSecrets({ 'anthropic-api-key': apiKey, 'claude-oauth-token': oauthToken })),
    registries: [],
    isTrusted: () => false,
    log: createLogger('error'),
  })
  const session = gateway.open({
    machineId: 'vm_1',
    userId: 'u_1',
    taskId: 't_1',
    policy: undefined,
    maxCostUsd: undefined,
    onUsage: (usage) => usages.push(usage),
    onModelError: (error) => errors.push(error),
    ...context,
  })
  stack.defer(() => session.close())
  return { session, usages, errors, guest: async () => stack.use(await connectGuest(session)) }
}

async function upstream(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  stack.defer(() => {
    server.close()
    server.closeAllConnections()
  })
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

test('a model request carries the credential of the host and no other; the guest never sees it', async () => {
  const { guest } = open()
  const client = await guest()
  const answer = await client.askModel(PROMPT('hi'), {
    'x-api-key': 'guest-key',
    authorization: 'Bearer guest-token',
    cookie: 'a=b',
    'proxy-authorization': 'Basic x',
    'anthropic-beta': 'future-beta-1',
    'x-unknown': 'kept',
  })
  expect(answer.status).toBe(200)
  expect(answer.body).toContain('hello guest')
  expect(JSON.stringify(answer)).not.toContain(SECRET)
  const [request] = model.requests
  expect(request?.path).toBe('/v1/messages?beta=true')
  expect(request?.headers).toMatchObject({
    'x-api-key': SECRET,
    'anthropic-beta': 'future-beta-1',
    'x-unknown': 'kept',
    'accept-encoding': 'identity',
    host: new URL(model.url).host,
  })
  expect(JSON.stringify(request?.headers)).not.toMatch(/guest-key|guest-token|proxy-|cookie/)
  expect(request?.body).toEqual(PROMPT('hi'))
})

test('an OAuth token goes as bearer with its beta; with both, the key wins', async () => {
  const oauth = open({ oauthToken: SECRET })
  const answer = await (await oauth.guest()).askModel(PROMPT('hi'), { 'anthropic-beta': 'a,b' })
  expect(answer.status).toBe(200)
  expect(model.requests[0]?.headers).toMatchObject({
    authorization: `Bearer ${SECRET}`,
    'anthropic-beta': 'a,b,oauth-2025-04-20',
  })
  expect(model.requests[0]?.headers['x-api-key']).toBeUndefined()
  const both = open({ apiKey: SECRET, oauthToken: 'other' })
  await (await both.guest()).askModel(PROMPT('hi'))
  expect(model.requests[1]?.headers['authorization']).toBeUndefined()
  expect(model.requests[1]?.headers['x-api-key']).toBe(SECRET)
})

test('without a credential a request is refused at once, with a sentence for the agent', async () => {
  const { guest, errors } = open({})
  const answer = await (await guest()).askModel(PROMPT('hi'))
  expect(answer.status).toBe(402)
  expect(answer.body).toContain('vivarium secret set anthropic-api-key')
  expect(errors).toMatchObject([{ status: 402, type: 'authentication_error' }])
  expect(model.requests).toEqual([])
})

test('tokens and cost are counted, reported and stored before the session is closed', async () => {
  const { session, guest, usages } = open()
  const client = await guest()
  await client.askModel(PROMPT('hi', true))
  await client.askModel(PROMPT('hi', false))
  await session.close()
  const each = { inputTokens: 1000, outputTokens: 42, cacheReadTokens: 300, cacheWriteTokens: 200, complete: true }
  expect(usages).toMatchObject([each, each])
  const { usage, costUsd, requests } = session.totals()
  expect({ usage, costUsd, requests }).toEqual({
    usage: { inputTokens: 2000, outputTokens: 84, cacheReadTokens: 600, cacheWriteTokens: 400 },
    costUsd: expect.closeTo(0.0118, 10),
    requests: 2,
  })
  const rows = await createUsage(database).query({ by: 'model' })
  expect(rows).toEqual([{ key: 'claude-opus-5-5', ...usage, requests, costUsd, incomplete: 0, unpriced: 0 }])
})

test('an answer that is cut off is cut off for the guest too, and what was seen is counted', async () => {
  const { session, guest, usages } = open()
  const client = await guest()
  await expect(client.askModel(PROMPT('cut'))).rejects.toThrow('NGHTTP2_INTERNAL_ERROR')
  await session.close()
  expect(usages).toMatchObject([{ inputTokens: 1000, complete: false }])
  const rows = await database.selectFrom('usageRecords').select(['complete', 'taskId', 'inputTokens']).execute()
  expect(rows).toEqual([{ complete: 0, taskId: 't_1', inputTokens: 1000 }])
})

test('closing a session counts the answers under way', async () => {
  const { session, guest, usages } = open()
  const client = await guest()
  const stream = client.send(MODEL_REQUEST, JSON.stringify(PROMPT('hang')))
  await once(stream, 'data')
  await session.close()
  await session.close()
  expect(usages).toMatchObject([{ inputTokens: 1000, complete: false }])
  expect(await database.selectFrom('usageRecords').selectAll().execute()).toHaveLength(1)
})

test('errors of the API reach the guest as they are, and the task hears of them', async () => {
  const { guest, errors, usages } = open()
  const answer = await (await guest()).askModel(PROMPT('busy'))
  expect(answer).toMatchObject({ status: 529, headers: { 'retry-after': '7' } })
  expect(JSON.parse(answer.body)).toMatchObject({ error: { type: 'overloaded_error' } })
  await expect.poll(() => errors).toEqual([{ status: 529, type: 'overloaded_error', message: 'Overloaded' }])
  expect(usages).toEqual([])
})

test('an API that does not answer gives 502 with the reason', async () => {
  const { guest, errors } = open({ apiKey: SECRET, upstream: 'http://127.0.0.1:1' })
  const answer = await (await guest()).askModel(PROMPT('hi'))
  expect(answer.status).toBe(502)
  expect(answer.body).toContain('ECONNREFUSED')
  expect(errors).toMatchObject([{ status: 502, type: 'api_error' }])
})

test('once the budget is spent the next request is refused with 402', async () => {
  const { session, guest, errors } = open({ apiKey: SECRET, maxCostUsd: 0.005 })
  const client = await guest()
  expect((await client.askModel(PROMPT('hi'))).status).toBe(200)
  expect(session.totals().overBudget).toBe(false)
  const refused = await client.askModel(PROMPT('hi'))
  expect(refused.status).toBe(402)
  expect(JSON.parse(refused.body)).toMatchObject({ type: 'error', error: { type: 'billing_error' } })
  expect(session.totals().overBudget).toBe(true)
  expect(errors).toMatchObject([{ type: 'billing_error' }])
  expect(model.requests).toHaveLength(1)
})

test('a budget also holds against a model without a known price', async () => {
  const { session, guest } = open({ apiKey: SECRET, maxCostUsd: 0.01 })
  const client = await guest()
  const unknown = { ...PROMPT('hi'), model: 'claude-next' }
  expect((await client.askModel(unknown)).status).toBe(200)
  expect((await client.askModel(unknown)).status).toBe(402)
  expect(session.totals()).toMatchObject({ costUsd: 0, overBudget: true })
})

test('two machines at once are counted apart', async () => {
  const one = open({ apiKey: SECRET, machineId: 'vm_1', taskId: 't_1', userId: 'u_1' })
  const two = open({ apiKey: SECRET, machineId: 'vm_2', taskId: 't_2', userId: 'u_2' })
  const [first, second] = await Promise.all([one.guest(), two.guest()])
  await Promise.all([first, second, first].map((guest) => guest.askModel(PROMPT('hi'))))
  await Promise.all([one.session.close(), two.session.close()])
  expect([one.session.totals().requests, two.session.totals().requests]).toEqual([2, 1])
  const usage = createUsage(database)
  const count = async (query: Parameters<typeof usage.query>[0]) =>
    (await usage.query(query)).map(({ key, requests }) => [key, requests])
  expect(await count({ by: 'task' })).toEqual([
    ['t_1', 2],
    ['t_2', 1],
  ])
  expect(await count({ by: 'user', userId: 'u_2' })).toEqual([['u_2', 1]])
  expect(await count({ by: 'day' })).toEqual([[new Date().toISOString().slice(0, 10), 3]])
  expect(await count({ by: 'model', since: '2999-01-01T00:00:00.000Z' })).toEqual([])
})

test.each([
  ['GET', '/v1/organizations/x'],
  ['POST', '/v1/messages/batches'],
  ['POST', '/v1/messages/../files'],
  ['POST', '/v1/messages%2fbatches'],
  ['DELETE', '/v1/messages'],
  ['GET', '/'],
  ['GET', '/v1/models/../organizations'],
])('the credential opens nothing but what the agent needs: %s %s', async (method, path) => {
  const { guest } = open()
  const answer = await (await guest()).ask({ ...MODEL_REQUEST, ':method': method, ':path': path })
  expect(answer.status).toBe(404)
  expect(model.requests).toEqual([])
})

test('the connection check passes without a credential', async () => {
  const { guest } = open({})
  const answer = await (await guest()).ask({ ...MODEL_REQUEST, ':method': 'HEAD', ':path': '/api/hello' })
  expect(answer.status).toBe(200)
})

test('a redirect is handed to the guest, never followed with the credential', async () => {
  const elsewhere: string[] = []
  const other = await upstream((request, response) => {
    elsewhere.push(request.url ?? '')
    response.end()
  })
  const url = await upstream((_request, response) => response.writeHead(307, { location: `${other}/x` }).end())
  const answer = await (await open({ apiKey: SECRET, upstream: url }).guest()).askModel(PROMPT('hi'))
  expect(answer.status).toBe(307)
  expect(elsewhere).toEqual([])
})

test('cookies of the API do not reach the guest, and an answer that cannot be counted is refused', async () => {
  const url = await upstream((request, response) => {
    const encoding = request.url?.includes('zip') === true ? 'gzip' : 'identity'
    response.writeHead(200, { 'set-cookie': 'session=1', 'content-encoding': encoding }).end('{}')
  })
  const client = await open({ apiKey: SECRET, upstream: url }).guest()
  expect((await client.askModel(PROMPT('hi'))).headers['set-cookie']).toBeUndefined()
  expect((await client.askModel(PROMPT('hi'), { ':path': '/v1/messages?zip' })).status).toBe(502)
})

test('a body that is not as long as it says never reaches the API as a whole request', async () => {
  const bodies: string[] = []
  const url = await upstream(async (request, response) => {
    try {
      bodies.push(Buffer.concat(await Array.fromAsync(request)).toString())
      response.end('{}')
    } catch {
      bodies.push('broken off')
    }
  })
  const client = await open({ apiKey: SECRET, upstream: url }).guest()
  const smuggled = 'ab\r\n\r\nGET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n'
  const send = (length: number) =>
    answerOn(client.send({ ...MODEL_REQUEST, 'content-length': length }, smuggled)).catch(() => 'reset')
  expect([await send(2), await send(500)]).toEqual(['reset', 'reset'])
  expect(bodies.filter((body) => body !== 'broken off')).toEqual([])
})

test('more requests at once than a machine may have are answered with 429', async () => {
  const { guest } = open()
  const client = await guest()
  const streams = Array.from({ length: 40 }, () => client.send(MODEL_REQUEST, JSON.stringify(PROMPT('hang'))))
  const statuses = await Promise.all(
    streams.map(async (stream) => (await once(stream, 'response'))[0][':status'] as number),
  )
  expect(statuses.filter((status) => status === 429)).toHaveLength(8)
  for (const stream of streams) stream.close()
})

test('what a guest sends as the body of a GET can never be read as a request on a connection that others will use', async () => {
  const heard: string[] = []
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (data) => {
      heard.push(data.toString())
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}')
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  stack.defer(() => void server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const client = await open({ upstream: url, apiKey: SECRET }).guest()

  // It has no end of its own: the head of whatever request comes next, and its credential, would be its body.
  const smuggled = 'POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: mine\r\ncontent-length: 100000\r\n\r\n'
  const get = { ...MODEL_REQUEST, ':method': 'GET', ':path': '/v1/models' }
  for (const length of [{}, { 'content-length': smuggled.length }])
    expect((await client.ask({ ...get, ...length }, smuggled)).status).toBe(200)
  await client.ask({ ...MODEL_REQUEST, ':method': 'HEAD', ':path': '/api/hello' }, smuggled)
  const all = heard.join('')
  expect(all).toContain('GET /v1/models')
  expect(all).toContain('HEAD /api/hello')
  expect(all).not.toMatch(/POST|mine|content-length|transfer-encoding/i)
})
