/** What a guest's kernel and programs would never send: requests made of raw HTTP/2 frames. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openDatabase } from '../store/database.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import { createLogger } from '../telemetry/logger.ts'
import { vaultCredentials } from './credentials.ts'
import { createGateway } from './gateway.ts'
import { answerOn, connectGuest, connectRaw } from './test-guest.ts'
import { testSecrets } from './test-secrets.ts'
import type { EgressDecision, EgressSession } from './types.ts'

let stack: AsyncDisposableStack
let session: EgressSession
let decisions: EgressDecision[]
/** What reached the server that is allowed, and the one that is not. */
let reached: string[]
let allowed: string
let canary: string

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  const database = await openDatabase(':memory:')
  stack.defer(() => database.destroy())
  reached = []
  decisions = []
  allowed = await serve('allowed')
  canary = await serve('canary')
  const gateway = createGateway({
    config: { anthropic: { upstream: 'http://127.0.0.1:1' }, network: { allow: ['*.example'] } },
    database,
    storage: SOUND_STORAGE,
    credentials: vaultCredentials(testSecrets({})),
    registries: [],
    isTrusted: () => true,
    log: createLogger('error'),
    resolve: async () => ['127.0.0.1'],
  })
  session = gateway.open({
    machineId: 'vm_1',
    userId: 'u_1',
    taskId: 't_1',
    policy: { allow: [allowed] },
    maxCostUsd: undefined,
    onEgress: (decision) => decisions.push(decision),
  })
  stack.defer(() => session.close())
})

afterEach(() => stack.disposeAsync())

async function serve(name: string): Promise<string> {
  const server = createServer((request, response) => {
    reached.push(`${name} ${request.method} ${request.url} ${request.headers.host}`)
    response.end(name)
  })
  server.on('connect', (request, socket) => {
    reached.push(`${name} CONNECT ${request.url}`)
    socket.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  stack.defer(() => {
    server.close()
    server.closeAllConnections()
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

const FRAME = { headers: 1, reset: 3, settings: 4, goAway: 7 }

function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** Fields as literals that no table remembers (RFC 7541, section 6.2.2). */
function literals(fields: [string, string][]): Buffer {
  const text = (value: string) =>
    Buffer.concat([Buffer.from([Buffer.byteLength(value, 'latin1')]), Buffer.from(value, 'latin1')])
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]))
}

/** Sends one request as raw frames; resolves with how it was answered: `refused` on the level of HTTP/2, else `answered`. */
async function send(fields: [string, string][]): Promise<'refused' | 'answered'> {
  const socket = await connectRaw(session)
  stack.defer(() => void socket.destroy())
  const endHeadersAndStream = 0x5
  socket.write(
    Buffer.concat([
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      frame(FRAME.settings, 0, 0),
      frame(FRAME.headers, endHeadersAndStream, 1, literals(fields)),
    ]),
  )
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of socket) {
    rest = Buffer.concat([rest, chunk as Buffer])
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const type = rest.readUInt8(3)
      if (type === FRAME.headers) return 'answered'
      if (type === FRAME.reset || type === FRAME.goAway) return 'refused'
      rest = rest.subarray(9 + rest.readUIntBE(0, 3))
    }
  }
  return 'refused'
}

const request = (authority: string, path = '/'): [string, string][] => [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', authority],
  [':path', path],
]

test('a request of raw frames arrives, so that those below fail for what they hold', async () => {
  expect(await send(request(allowed, '/plain'))).toBe('answered')
  expect(reached).toEqual([`allowed GET /plain ${allowed}`])
})

test('a Host field that names another host counts for nothing', async () => {
  expect(await send([...request(allowed, '/x'), ['host', canary]])).toBe('answered')
  await expect.poll(() => reached.every((each) => each === `allowed GET /x ${allowed}`)).toBe(true)
})

const TRICKS: [string, () => [string, string][]][] = [
  ['two authorities', () => [...request(allowed), [':authority', canary]]],
  ['two paths', () => [...request(allowed), [':path', `http://${canary}/`]]],
  ['a pseudo-header after a field', () => [['x-a', '1'], ...request(canary)]],
  ['an unknown pseudo-header', () => [...request(allowed), [':target', canary]]],
  [
    'extended CONNECT',
    () => [
      [':method', 'CONNECT'],
      [':protocol', 'websocket'],
      [':scheme', 'http'],
      [':authority', canary],
      [':path', '/'],
    ],
  ],
  [
    'CONNECT with a path',
    () => [
      [':method', 'CONNECT'],
      [':scheme', 'http'],
      [':authority', canary],
      [':path', '/'],
    ],
  ],
  ['a line break in a field', () => [...request(allowed), ['x-a', `1\r\nHost: ${canary}`]]],
  ['a line break in the path', () => request(allowed, `/ HTTP/1.1\r\nHost: ${canary}\r\n\r\nGET /`)],
  ['a line break in the authority', () => request(`${allowed}\r\nx: y`)],
  ['transfer-encoding', () => [...request(allowed), ['transfer-encoding', 'chunked']]],
  ['two lengths', () => [...request(allowed), ['content-length', '0'], ['content-length', '5']]],
  ['a whole URL as path', () => request(allowed, `http://${canary}/`)],
  ['a path without a slash', () => request(allowed, `@${canary}/`)],
  ['a method in small letters', () => [[':method', 'connect'], ...request(allowed, canary).slice(1)]],
  ['a method with a space', () => [[':method', `GET http://${canary}/ HTTP/1.1`], ...request(allowed).slice(1)]],
  ['a user before the host', () => request(`${allowed}@${canary}`)],
  [
    'another scheme',
    () => [
      [':method', 'GET'],
      [':scheme', 'file'],
      [':authority', allowed],
      [':path', '/etc/passwd'],
    ],
  ],
  ['no authority but a Host field', () => [...request('').filter(([name]) => name !== ':authority'), ['host', canary]]],
]

test.each(TRICKS)('%s opens nothing', async (_name, fields) => {
  await send(fields())
  // Whatever is still on its way has arrived when one that follows has.
  expect(await send(request(allowed, '/after'))).toBe('answered')
  // nghttp2 leaves out a field that no field may be, and passes the rest: an ordinary request for what is allowed.
  const ordinary = new Set(['/', '/after'].map((path) => `allowed GET ${path} ${allowed}`))
  expect(reached.filter((each) => !ordinary.has(each))).toEqual([])
})

test.each([
  '2130706433',
  '0x7f000001',
  '017700000001',
  '127.1',
  '127.0.0.01',
  '0177.0.0.1',
  '[::ffff:127.0.0.1]',
  '[::1]',
  '[::]',
  '0',
  '0.0.0.0',
  'localhost',
  'localhost.',
  '127.0.0.1.',
  'a.example',
])('the canary is not reached as %s, by CONNECT or by http, and both attempts are in the log', async (spelling) => {
  const port = canary.split(':')[1]
  using guest = await connectGuest(session)
  const authority = `${spelling}:${port}`
  const tunnel = await answerOn(guest.send({ ':method': 'CONNECT', ':authority': authority })).catch(() => ({
    status: 0,
  }))
  const plain = await guest
    .ask({ ':method': 'GET', ':scheme': 'http', ':authority': authority, ':path': '/' })
    .catch(() => ({ status: 0 }))
  expect([tunnel.status, plain.status]).not.toContain(200)
  expect(reached).toEqual([])
  expect(decisions).toMatchObject([{ allowed: false }, { allowed: false }])
})

test.each(['①②⑦.0.0.1', '127。0。0。1', 'ⓛocalhost'])('%s is not even a request', async (spelling) => {
  using guest = await connectGuest(session)
  const authority = `${spelling}:${canary.split(':')[1]}`
  await expect(answerOn(guest.send({ ':method': 'CONNECT', ':authority': authority }))).rejects.toThrow('NGHTTP2')
  expect(reached).toEqual([])
})

test('of a name with several addresses only those are used that may be', async () => {
  const port = Number(allowed.split(':')[1])
  const hidden = createServer((_request, response) => response.end('hidden')).listen(port, '127.0.0.9')
  await once(hidden, 'listening')
  stack.defer(() => void hidden.close())
  const database = await openDatabase(':memory:')
  stack.defer(() => database.destroy())
  const mixed = createGateway({
    config: { anthropic: { upstream: 'http://127.0.0.1:1' }, network: { allow: [`mixed.example:${port}`] } },
    database,
    storage: SOUND_STORAGE,
    credentials: vaultCredentials(testSecrets({})),
    registries: [],
    isTrusted: () => true,
    log: createLogger('error'),
    resolve: async () => ['127.0.0.9', '::ffff:127.0.0.9', '127.0.0.1', '10.0.0.1'],
  }).open({ machineId: 'vm_2', userId: 'u_1', taskId: null, policy: { allow: [allowed] }, maxCostUsd: undefined })
  stack.defer(() => mixed.close())
  using guest = await connectGuest(mixed)
  const answer = await guest.ask({
    ':method': 'GET',
    ':scheme': 'http',
    ':authority': `mixed.example:${port}`,
    ':path': '/',
  })
  expect(answer.body).toBe('allowed')
})
