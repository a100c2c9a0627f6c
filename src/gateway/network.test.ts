import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { constants } from 'node:http2'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openDatabase, type Database } from '../store/database.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import { preambleLine } from '../link/scanner.ts'
import { createLogger } from '../telemetry/logger.ts'
import { vaultCredentials } from './credentials.ts'
import { createGateway } from './gateway.ts'
import { answerOn, connectGuest, connectRaw, connectSocket, type TestGuest } from './test-guest.ts'
import { testSecrets } from './test-secrets.ts'
import type { EgressDecision } from './types.ts'

let database: Database
let stack: AsyncDisposableStack

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  database = await openDatabase(':memory:')
  stack.defer(() => database.destroy())
})

afterEach(() => stack.disposeAsync())

/** A machine's session; the owner is trusted, `names` is what the resolver knows. */
function open(
  given: {
    allow?: string[]
    names?: Record<string, () => string[] | Promise<string[]>>
    registry?: { host: string; port: number }
  } = {},
) {
  const decisions: EgressDecision[] = []
  const gateway = createGateway({
    config: { anthropic: { upstream: 'http://127.0.0.1:1' }, network: { allow: [] } },
    database,
    storage: SOUND_STORAGE,
    credentials: vaultCredentials(testSecrets({})),
    registries: given.registry === undefined ? [] : [given.registry],
    isTrusted: () => true,
    log: createLogger('error'),
    resolve: async (host) => (await given.names?.[host]?.()) ?? [],
  })
  const session = gateway.open({
    machineId: 'vm_1',
    userId: 'u_1',
    taskId: 't_1',
    policy: { allow: given.allow ?? [] },
    maxCostUsd: undefined,
    onEgress: (decision) => decisions.push(decision),
  })
  stack.defer(() => session.close())
  return { session, decisions, guest: async () => stack.use(await connectGuest(session)) }
}

/** A server that takes connections and says what came. */
async function listen(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    onConnection(socket)
  }).listen(0, '127.0.0.1')
  stack.defer(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

async function serve(listener: RequestListener): Promise<number> {
  const server = createHttpServer(listener).listen(0, '127.0.0.1')
  stack.defer(() => {
    server.close()
    server.closeAllConnections()
  })
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

const tunnelTo = (guest: TestGuest, authority: string) => guest.send({ ':method': 'CONNECT', ':authority': authority })

const get = (authority: string, path = '/') => ({
  ':method': 'GET',
  ':scheme': 'http',
  ':authority': authority,
  ':path': path,
})

test('a tunnel carries bytes both ways, each direction ending by itself', async () => {
  const port = await listen((socket) => {
    const parts = [Buffer.from('got ')]
    socket.on('data', (part) => parts.push(Buffer.from(part))).on('end', () => socket.end(Buffer.concat(parts)))
  })
  const { guest, decisions } = open({ allow: [`127.0.0.1:${port}`] })
  const stream = tunnelTo(await guest(), `127.0.0.1:${port}`)
  const sent = Buffer.alloc(3_000_000, 'x')
  stream.end(sent)
  const answer = await answerOn(stream)
  expect(answer.status).toBe(200)
  expect(answer.body).toBe(`got ${sent.toString()}`)
  await expect
    .poll(() => decisions)
    .toEqual([
      {
        host: '127.0.0.1',
        port,
        allowed: true,
        rule: `allow 127.0.0.1:${port}`,
        bytesOut: sent.length,
        bytesIn: sent.length + 4,
      },
    ])
})

test('a host that no rule names is refused with a sentence the agent can act on, and never resolved', async () => {
  let lookups = 0
  const { guest, decisions } = open({
    allow: ['good.example'],
    names: {
      'evil.example': () => {
        lookups += 1
        return ['93.184.215.14']
      },
    },
  })
  const client = await guest()
  const answer = await answerOn(tunnelTo(client, 'evil.example:443'))
  expect(answer.status).toBe(403)
  expect(answer.body).toContain('--allow evil.example')
  expect((await client.ask(get('evil.example'))).status).toBe(403)
  expect(lookups).toBe(0)
  expect(decisions).toEqual([
    { host: 'evil.example', port: 443, allowed: false, rule: 'deny by default' },
    { host: 'evil.example', port: 80, allowed: false, rule: 'deny by default' },
  ])
})

test('an allowed name with a private address is refused', async () => {
  const { guest, decisions } = open({
    allow: ['*.example'],
    names: { 'a.example': () => ['169.254.169.254', '127.0.0.1', '::1'] },
  })
  const answer = await answerOn(tunnelTo(await guest(), 'a.example:443'))
  expect(answer.status).toBe(403)
  expect(answer.body).toContain('private address')
  expect(decisions).toMatchObject([{ allowed: false, rule: 'deny private address 169.254.169.254' }])
})

test('the address that was checked is the one connected to: a name that changes in between gains nothing', async () => {
  const reached: string[] = []
  const port = await listen((socket) => {
    reached.push(String(socket.localAddress))
    socket.end('hi')
  })
  let lookups = 0
  const { guest } = open({
    // 127.0.0.1 is opened, all other private addresses are not.
    allow: [`rebind.example:${port}`, `127.0.0.1:${port}`],
    names: {
      'rebind.example': () => {
        lookups += 1
        return lookups === 1 ? ['127.0.0.1'] : ['127.0.0.2']
      },
    },
  })
  const client = await guest()
  const first = tunnelTo(client, `rebind.example:${port}`)
  first.end()
  expect((await answerOn(first)).body).toBe('hi')
  expect(lookups).toBe(1)
  expect((await answerOn(tunnelTo(client, `rebind.example:${port}`))).status).toBe(403)
  expect(reached).toEqual(['127.0.0.1'])
})

test('a registry of this host may have a private address', async () => {
  const port = await serve((_request, response) => response.end('packages'))
  const { guest } = open({
    allow: ['packages'],
    registry: { host: 'npm.corp.example', port },
    names: { 'npm.corp.example': () => ['127.0.0.1'] },
  })
  expect(await (await guest()).ask(get(`npm.corp.example:${port}`))).toMatchObject({ status: 200, body: 'packages' })
})

test('a name that does not resolve and a port where nobody listens give 502 with the reason', async () => {
  const { guest } = open({ allow: ['gone.example', '127.0.0.1:1'] })
  const client = await guest()
  const unresolved = await answerOn(tunnelTo(client, 'gone.example:443'))
  expect([unresolved.status, unresolved.body]).toEqual([502, "The name gone.example can't be resolved.\n"])
  const refused = await answerOn(tunnelTo(client, '127.0.0.1:1'))
  expect([refused.status, refused.body]).toEqual([502, "127.0.0.1:1 can't be reached: ECONNREFUSED.\n"])
})

test.each([
  '',
  'host',
  'host:',
  'host:0',
  'host:99999',
  'a b:443',
  'u@h:443',
  '[::1',
  '[::1]',
  '127.1:80',
  '0x7f.1:80',
])('an odd destination opens nothing: "%s"', async (authority) => {
  const { guest } = open({ allow: ['127.0.0.1', 'host'] })
  const client = await guest()
  const stream = tunnelTo(client, authority)
  const answer = await answerOn(stream).catch(() => ({ status: 0 }))
  expect(answer.status).not.toBe(200)
})

test('plain HTTP is forwarded with the fields that are meant for the server', async () => {
  const seen: unknown[] = []
  const port = await serve(async (request, response) => {
    seen.push({ method: request.method, url: request.url, headers: request.headers, body: await text(request) })
    response.writeHead(201, { 'x-answer': 'yes', 'keep-alive': 'timeout=5', connection: 'x-hop', 'x-hop': '1' })
    response.end('made')
  })
  const authority = `127.0.0.1:${port}`
  const { guest, decisions } = open({ allow: [authority] })
  const answer = await (
    await guest()
  ).ask({ ...get(authority, '/a?b'), ':method': 'PUT', 'proxy-authorization': 'x', 'x-own': '1' }, 'body')
  expect(answer).toMatchObject({ status: 201, body: 'made', headers: { 'x-answer': 'yes' } })
  expect(answer.headers).not.toHaveProperty('x-hop')
  expect(answer.headers).not.toHaveProperty('keep-alive')
  expect(seen).toMatchObject([
    { method: 'PUT', url: '/a?b', headers: { host: authority, 'x-own': '1', connection: 'close' }, body: 'body' },
  ])
  expect(JSON.stringify(seen)).not.toContain('proxy-')
  await expect.poll(() => decisions).toMatchObject([{ allowed: true, port }])
})

test('answers without a body pass: HEAD, 204, 304', async () => {
  const port = await serve((request, response) => response.writeHead(Number(request.url?.slice(1))).end())
  const { guest } = open({ allow: [`127.0.0.1:${port}`] })
  const client = await guest()
  const ask = async (method: string, path: string) =>
    (await client.ask({ ...get(`127.0.0.1:${port}`, path), ':method': method })).status
  expect([await ask('HEAD', '/200'), await ask('GET', '/204'), await ask('GET', '/304')]).toEqual([200, 204, 304])
})

test('a server that answers before it has read the request is heard in full', async () => {
  const large = 'y'.repeat(5_000_000)
  const port = await listen((socket) => {
    socket
      .once('data', () => socket.write(`HTTP/1.1 413 No\r\ncontent-length: ${large.length}\r\n\r\n${large}`))
      .resume()
  })
  const { guest } = open({ allow: [`127.0.0.1:${port}`] })
  const client = await guest()
  const stream = client.send({ ...get(`127.0.0.1:${port}`), ':method': 'POST' }, Buffer.alloc(8_000_000))
  const answer = await answerOn(stream)
  expect([answer.status, answer.body.length]).toEqual([413, large.length])
})

test('a server that breaks off in the middle breaks off for the guest', async () => {
  const port = await serve((_request, response) => {
    response.writeHead(200, { 'content-length': 100 }).write('half', () => response.destroy())
  })
  const { guest } = open({ allow: [`127.0.0.1:${port}`] })
  await expect((await guest()).ask(get(`127.0.0.1:${port}`))).rejects.toThrow('NGHTTP2')
})

test('a guest that reads nothing holds its own stream back, not the host and not its other streams', async () => {
  let written = 0
  const port = await listen((socket) => {
    const pour = () => {
      while (socket.write(Buffer.alloc(65_536))) written += 65_536
    }
    socket.on('drain', pour)
    pour()
  })
  const other = await serve((_request, response) => response.end('fine'))
  const { guest } = open({ allow: [`127.0.0.1:${port}`, `127.0.0.1:${other}`] })
  const client = await guest()
  const stuck = tunnelTo(client, `127.0.0.1:${port}`)
  await once(stuck, 'response')
  for (let round = 0; round < 20; round += 1) expect((await client.ask(get(`127.0.0.1:${other}`))).body).toBe('fine')
  // What fits into kernel buffers and windows, and no more.
  expect(written).toBeLessThan(32 * 1024 * 1024)
})

test('closing a session does not wait for a name that is being looked up', async () => {
  let lookups = 0
  const never = () => {
    lookups += 1
    return new Promise<string[]>(() => undefined)
  }
  const { session, guest } = open({ allow: ['slow.example'], names: { 'slow.example': never } })
  tunnelTo(await guest(), 'slow.example:443')
  await expect.poll(() => lookups).toBe(1)
  await session.close()
})

test('names that nobody waits for any more are not looked up, however many have been asked for', async () => {
  const answers: ((addresses: string[]) => void)[] = []
  const slow = () => new Promise<string[]>((resolve) => answers.push(resolve))
  const { session, guest } = open({ allow: ['slow.example'], names: { 'slow.example': slow } })
  const client = await guest()
  for (let count = 0; count < 100; count += 1) tunnelTo(client, 'slow.example:443')
  await expect.poll(() => answers.length).toBe(2)
  const next = await guest()
  // The first connection is gone, and with it all who waited but for the two whose names are being looked up.
  await expect.poll(() => client.socket.destroyed).toBe(true)
  tunnelTo(next, 'slow.example:443')
  for (const answer of answers.splice(0)) answer([])
  await expect.poll(() => answers.length).toBe(1)
  await session.close()
})

test('the body of a GET that names no length is framed, so that an upstream reads one request', async () => {
  const requests: string[] = []
  const port = await serve((request, response) => {
    requests.push(request.url ?? '')
    void text(request).then((body) => response.end(body))
  })
  const { guest } = open({ allow: [`127.0.0.1:${port}`] })
  const smuggled = 'GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n'
  const answer = await (await guest()).ask(get(`127.0.0.1:${port}`, '/plain'), smuggled)
  expect(answer.body).toBe(smuggled)
  expect(requests).toEqual(['/plain'])
})

test('a flood of decisions is reported up to a bound, then named as such', async () => {
  const { guest, decisions } = open()
  const client = await guest()
  for (let round = 0; round < 11; round += 1)
    await Promise.all(Array.from({ length: 100 }, () => answerOn(tunnelTo(client, 'x.example:443'))))
  expect(decisions).toHaveLength(1001)
  expect(decisions.at(-1)?.rule).toContain('not reported')
})

test('a flood of refused requests does not hide what is allowed', async () => {
  const port = await serve((_request, response) => response.end('fine'))
  const { guest, decisions } = open({ allow: [`127.0.0.1:${port}`] })
  const client = await guest()
  for (let round = 0; round < 11; round += 1)
    await Promise.all(Array.from({ length: 100 }, () => answerOn(tunnelTo(client, 'x.example:443'))))
  await client.ask(get(`127.0.0.1:${port}`))
  await expect.poll(() => decisions.at(-1)).toMatchObject({ host: '127.0.0.1', port, allowed: true })
})

const REFUSED: [string, Record<string, string>, string][] = [
  ['CONNECT to an upstream', { ':method': 'CONNECT', ':authority': 'github.upstream:443' }, 'github.upstream'],
  ['an upstream that there is not', get('nothing.upstream'), 'nothing.upstream'],
  ['a request that the model takes not', get('anthropic.upstream', '/v1/organizations'), 'anthropic.upstream'],
  ['a method in small letters', { ...get('127.0.0.1:1'), ':method': 'get' }, '127.0.0.1'],
  ['another scheme', { ...get('127.0.0.1:1'), ':scheme': 'https' }, '127.0.0.1'],
  ['a destination that is none', { ':method': 'CONNECT', ':authority': '127.1:80' }, '127.1:80'],
]

test.each(REFUSED)('%s is refused, and in the log', async (_name, headers, host) => {
  const { guest, decisions } = open({ allow: ['127.0.0.1:1'] })
  const answer = await answerOn((await guest()).send(headers))
  expect([400, 404]).toContain(answer.status)
  expect(decisions).toMatchObject([{ host, allowed: false }])
})

test('what is more at once than a machine may have is refused, and in the log', async () => {
  const { session, guest, decisions } = open({
    allow: ['slow.example'],
    names: { 'slow.example': () => new Promise(() => undefined) },
  })
  const client = await guest()
  await once(client.http2, 'remoteSettings')
  for (let round = 0; round < 3; round += 1) {
    const streams = Array.from({ length: 100 }, () => tunnelTo(client, 'slow.example:443'))
    await new Promise((resolve) => client.http2.ping(resolve))
    // So that HTTP/2 counts them no more; what they began goes on.
    for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL)
  }
  await expect.poll(() => decisions.length).toBeGreaterThan(0)
  expect(new Set(decisions.map(({ rule }) => rule))).toEqual(new Set(['more at once than limits.connections']))
  await session.close()
})

test('a guest that floods, resets at once or sends garbage ends its own connection and may open a new one', async () => {
  const port = await serve((_request, response) => response.end('fine'))
  const { session, guest } = open({ allow: [`127.0.0.1:${port}`] })
  const others = open({ allow: [`127.0.0.1:${port}`] })
  const innocent = await others.guest()

  const resetting = await guest()
  for (let count = 0; count < 5000 && !resetting.http2.destroyed; count += 1) {
    resetting.send(get(`127.0.0.1:${port}`)).close(constants.NGHTTP2_CANCEL)
    if (count % 100 === 0) await new Promise(setImmediate)
  }
  await expect.poll(() => resetting.socket.destroyed).toBe(true)

  const babbling = await connectRaw(session)
  babbling.write(Buffer.alloc(1_000_000, 0xff))
  await expect.poll(() => babbling.destroyed).toBe(true)

  expect((await innocent.ask(get(`127.0.0.1:${port}`))).body).toBe('fine')
  const again = await guest()
  // What the flood has begun takes a moment to end.
  await expect.poll(() => again.ask(get(`127.0.0.1:${port}`)).catch(() => undefined)).toMatchObject({ body: 'fine' })
})

test('a new connection of the guest takes the place of the old one; after close there is none', async () => {
  const port = await serve((_request, response) => response.end('fine'))
  const { session, guest } = open({ allow: [`127.0.0.1:${port}`] })
  const first = await guest()
  const second = await guest()
  await expect.poll(() => first.socket.destroyed).toBe(true)
  expect((await second.ask(get(`127.0.0.1:${port}`))).body).toBe('fine')
  await session.close()
  await expect.poll(() => second.socket.destroyed).toBe(true)
})

test('a guest that starts a session without having read what came before does not end the host', async () => {
  const { session } = open()
  const { guest, host } = await connectSocket(session)
  stack.defer(() => void guest.destroy())
  const [hello] = (await once(guest, 'data')) as [Buffer]
  const nonce = /hello (\w+)/.exec(hello.toString())?.[1] ?? ''
  // The guest reads no more until the host can't write any more, then goes on as if it had read all of it.
  guest.pause()
  while (host.writableLength === 0) host.write(preambleLine('hello', nonce))
  guest.write(preambleLine('echo', nonce) + preambleLine('ready', nonce))
  await expect.poll(() => host.bytesRead).toBeGreaterThan(0)
  guest.resume()
  await expect.poll(() => host.writableLength).toBe(0)
  expect(host.destroyed).toBe(false)
})
