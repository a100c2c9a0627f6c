import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeCertificates } from '../../../test/support/certificates.ts'
import { UpstreamSetting } from '../../config/schema.ts'
import type { NetworkPolicy } from '../../contracts/network.ts'
import type { RegistryUpstream } from '../../registries/upstreams.ts'
import { openDatabase, type Database } from '../../store/database.ts'
import { SOUND_STORAGE } from '../../store/testing/sound-storage.ts'
import { createLogger } from '../../telemetry/logger.ts'
import { vaultCredentials } from '../credentials.ts'
import { createGateway } from '../gateway.ts'
import { answerOn, connectGuest } from '../test-guest.ts'
import { testSecrets } from '../test-secrets.ts'
import type { EgressDecision } from '../types.ts'
import { UpstreamAgents } from './agents.ts'
import { upstreamSet } from './set.ts'

const SECRET = 's3cret-of-the-host'

let database: Database
let stack: AsyncDisposableStack

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  database = await openDatabase(':memory:')
  stack.defer(() => database.destroy())
})

afterEach(() => stack.disposeAsync())

interface Given {
  settings?: object[]
  registries?: RegistryUpstream[]
  secrets?: Record<string, string>
  network?: string[]
  users?: Record<string, NetworkPolicy>
  policy?: NetworkPolicy
  needsModel?: boolean
  certificates?: string[]
}

/** A machine's session, with everything that was decided and every use of a secret. */
function open({ settings = [], registries = [], network = [], ...given }: Given) {
  const decisions: EgressDecision[] = []
  const secrets = testSecrets(given.secrets ?? { token: SECRET })
  const set = upstreamSet({ settings: settings.map((each) => UpstreamSetting.parse(each)), registries, secrets })
  const gateway = createGateway({
    config: { anthropic: { upstream: 'http://127.0.0.1:1' }, network: { allow: network, users: given.users } },
    database,
    storage: SOUND_STORAGE,
    credentials: vaultCredentials(secrets),
    registries: [],
    upstreams: { ...set, agents: new UpstreamAgents(() => given.certificates ?? []) },
    userName: () => 'ada',
    isTrusted: () => true,
    log: createLogger('error'),
  })
  const session = gateway.open({
    machineId: 'vm_1',
    userId: 'u_1',
    taskId: 't_1',
    policy: given.policy,
    needsModel: given.needsModel === true,
    maxCostUsd: undefined,
    onEgress: (decision) => decisions.push(decision),
  })
  stack.defer(() => session.close())
  return { session, secrets, decisions, guest: async () => stack.use(await connectGuest(session)) }
}

interface Seen {
  method: string | undefined
  url: string | undefined
  headers: IncomingMessage['headers']
  body: string
}

/** A server that notes what it is asked. */
async function serve(answer: RequestListener = (_request, response) => response.end('fine')) {
  const seen: Seen[] = []
  const server = createServer(async (request, response) => {
    const { method, url, headers } = request
    seen.push({ method, url, headers, body: await text(request).catch(() => 'broken off') })
    answer(request, response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  stack.defer(() => {
    server.close()
    server.closeAllConnections()
  })
  return { seen, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

const jira = (url: string, more: object = {}) => ({ name: 'jira', url, inject: { secret: 'token' }, ...more })

/** A request as the agent in the guest sends it, of what was asked at the local address. */
const ask = (path: string, method = 'GET', more = {}) => ({
  ':method': method,
  ':scheme': 'http',
  ':authority': 'local.upstream',
  ':path': path,
  ...more,
})

test('a request carries the secret in the field the settings name and no credential of the guest; the guest never sees it', async () => {
  const { seen, url } = await serve((request, response) => {
    response.writeHead(200, { 'set-cookie': 'session=1', 'x-answer': 'yes' }).end(request.url)
  })
  const inject = { secret: 'token', header: 'Private-Token', format: 'key {secret}' }
  const { guest, secrets, decisions } = open({ settings: [jira(`${url}/base/`, { inject })] })
  const answer = await (
    await guest()
  ).ask(
    ask('/jira/rest/x?y=1', 'POST', {
      authorization: 'Bearer guests',
      cookie: 'a=b',
      'x-api-key': 'guests',
      'private-token': 'guests',
      private_token: 'guests',
      'x-http-method-override': 'DELETE',
      x_http_method_override: 'DELETE',
      'x-forwarded-host': 'evil.example',
      'x-original-url': '/admin',
      host: 'evil.example',
      'x-own': 'kept',
    }),
    'the body',
  )
  expect(answer).toMatchObject({ status: 200, body: '/base/rest/x?y=1', headers: { 'x-answer': 'yes' } })
  expect(JSON.stringify(answer)).not.toMatch(/set-cookie|s3cret/)
  expect(seen).toMatchObject([
    {
      method: 'POST',
      url: '/base/rest/x?y=1',
      body: 'the body',
      headers: { 'private-token': `key ${SECRET}`, 'x-own': 'kept' },
    },
  ])
  expect(seen[0]?.headers.host).toBe(new URL(url).host)
  expect(JSON.stringify(seen)).not.toMatch(/guests|cookie|override|evil|admin/)
  expect(secrets.uses).toMatchObject([
    { userId: 'u_1', name: 'token', purpose: 'jira', machineId: 'vm_1', taskId: 't_1' },
  ])
  const port = Number(new URL(url).port)
  await expect
    .poll(() => decisions)
    .toEqual([{ host: '127.0.0.1', port, allowed: true, rule: 'upstream jira', bytesOut: 8, bytesIn: 16 }])
})

test('both addresses of an upstream lead to it; others are told which there are', async () => {
  const { url } = await serve((request, response) => response.end(request.url))
  const client = await open({ settings: [jira(url)] }).guest()
  expect((await client.ask(ask('/jira/a'))).body).toBe('/a')
  expect((await client.ask(ask('/jira'))).body).toBe('/')
  expect((await client.ask(ask('/jira?x'))).body).toBe('/?x')
  expect((await client.ask(ask('/b', 'GET', { ':authority': 'JIRA.upstream:80' }))).body).toBe('/b')
  for (const request of [ask('/'), ask('/other/x'), ask('/x', 'GET', { ':authority': '.upstream' })]) {
    const answer = await client.ask(request)
    expect([answer.status, answer.body]).toEqual([404, expect.stringContaining('jira, github, github-api')])
  }
  const tunnel = await answerOn(client.send({ ':method': 'CONNECT', ':authority': 'jira.upstream:443' }))
  expect(tunnel.status).toBe(400)
})

test('only the requests that the settings list are sent on, and of those only what a narrower level leaves', async () => {
  const { seen, url } = await serve()
  const allow = [
    { method: 'GET', path: '/issues/**' },
    { method: 'POST', path: '/issues' },
  ]
  const users = { ada: { allow: [], upstreams: { jira: [{ method: 'GET' as const, path: '/**' }] } } }
  const wide = await open({ settings: [jira(url, { allow })] }).guest()
  const { guest, decisions } = open({ settings: [jira(url, { allow })], users })
  const narrow = await guest()
  const statuses = async (method: string, path: string) => [
    (await wide.ask(ask(path, method))).status,
    (await narrow.ask(ask(path, method))).status,
  ]
  expect(await statuses('GET', '/jira/issues/1')).toEqual([200, 200])
  expect(await statuses('POST', '/jira/issues')).toEqual([200, 403])
  expect(await statuses('DELETE', '/jira/issues/1')).toEqual([403, 403])
  expect(await statuses('GET', '/jira/users')).toEqual([403, 403])
  for (const path of ['/jira/issues/../users', '/jira/issues/%2e%2e/users', '/jira/issues//users', '/jira//issues/1'])
    expect(await statuses('GET', path)).toEqual([400, 400])
  expect(seen.map((each) => `${each.method} ${each.url}`)).toEqual(['GET /issues/1', 'GET /issues/1', 'POST /issues'])
  expect(decisions).toContainEqual(
    expect.objectContaining({ allowed: false, rule: 'upstream jira takes no DELETE /issues/1' }),
  )
})

test.each(['TRACE', 'get', 'connect', 'PROPFIND', 'X'])('no upstream is sent a %s', async (method) => {
  const { seen, url } = await serve()
  expect((await (await open({ settings: [jira(url)] }).guest()).ask(ask('/jira/x', method))).status).toBe(403)
  expect(seen).toEqual([])
})

test('an upstream needs a rule: the settings open theirs, `none` closes it, a task opens it again', async () => {
  const { url } = await serve()
  const status = async (policy: NetworkPolicy | undefined, users = {}) => {
    const { guest } = open({ settings: [jira(url)], users, ...(policy && { policy }) })
    const answer = await (await guest()).ask(ask('/jira/x'))
    return answer.status === 403 ? answer.body : answer.status
  }
  expect(await status(undefined)).toBe(200)
  expect(await status({ allow: ['none'] })).toContain('--allow upstream:jira')
  expect(await status(undefined, { ada: { allow: ['none'] } })).toContain('--allow upstream:jira')
  expect(await status({ allow: ['none', 'upstream:jira'] })).toBe(200)
  expect(await status({ allow: ['none', new URL(url).host] })).toBe(200)
})

test('`none` closes the model as well, unless the agent needs it, and `anthropic` opens it', async () => {
  const model = async (allow: string[], needsModel = false) => {
    const answer = await (await open({ policy: { allow }, needsModel }).guest()).askModel({ model: 'x', messages: [] })
    return answer.status
  }
  expect(await model(['none'])).toBe(403)
  // No credential is stored.
  expect(await model(['none', 'anthropic'])).toBe(402)
  expect(await model(['none'], true)).toBe(402)
})

test('without the secret it needs a request is refused with what to do, and GitHub serves what is public', async () => {
  const { seen, url } = await serve((_request, response) =>
    response.writeHead(401, { 'www-authenticate': 'Basic' }).end(),
  )
  const secrets = {}
  const needs = await (await open({ settings: [jira(url)], secrets }).guest()).ask(ask('/jira/x'))
  expect([needs.status, needs.body]).toEqual([403, expect.stringContaining('vivarium secret set token')])
  expect(seen).toEqual([])

  const set = upstreamSet({ settings: [], registries: [], secrets: testSecrets({}) })
  expect(set.list).toMatchObject([{ name: 'github' }, { name: 'github-api' }])
  expect(set.list.every(({ inject }) => inject?.kind === 'secret' && !inject.required)).toBe(true)
})

test('a redirect within the upstream stays local, one to elsewhere is the guest’s own business, without the credential', async () => {
  const other = await serve()
  const upstream = await serve((request, response) => {
    const to: Record<string, string> = {
      '/base/inside': `${upstream.url}/base/new?x=1#y`,
      '/base/relative': 'next',
      '/base/outside': '/admin',
      '/base/away': `${other.url}/x`,
      '/base/host': '//evil.example/x',
    }
    const links = `<${upstream.url}/base/list?page=2>; rel="next", <https://else.example/>; rel="help"`
    response.writeHead(302, { location: to[request.url ?? ''] ?? '', link: links }).end()
  })
  const client = await open({ settings: [jira(`${upstream.url}/base`)] }).guest()
  const leads = async (path: string, more = {}) => (await client.ask(ask(path, 'GET', more))).headers
  const local = 'http://127.0.0.1:3130/jira'
  expect((await leads('/jira/inside')).location).toBe(`${local}/new?x=1#y`)
  expect((await leads('/jira/relative')).location).toBe(`${local}/next`)
  expect((await leads('/jira/outside')).location).toBe(`${upstream.url}/admin`)
  expect((await leads('/jira/away')).location).toBe(`${other.url}/x`)
  expect((await leads('/jira/host')).location).toBe('http://evil.example/x')
  expect((await leads('/inside', { ':authority': 'jira.upstream' })).location).toBe('http://jira.upstream/new?x=1#y')
  expect((await leads('/jira/inside')).link).toBe(
    `<${local}/list?page=2>; rel="next", <https://else.example/>; rel="help"`,
  )
  expect(other.seen).toEqual([])
})

const registry = (origin: string, more: Partial<RegistryUpstream> = {}): RegistryUpstream => ({
  name: 'npm-acme',
  origin,
  path: '/repo',
  authorization: `Bearer ${SECRET}`,
  rewritesBodies: true,
  ...more,
})

test('a registry of the host is read with its credential, below its path only, and never written to', async () => {
  const { seen, url } = await serve((_request, response) => {
    const tarball = `${url}/repo/x/-/x-1.0.0.tgz`
    response.writeHead(200, { 'content-type': 'application/vnd.npm.install-v1+json' })
    response.write(JSON.stringify({ padding: 'x'.repeat(70_000) }) + tarball.slice(0, 12))
    setImmediate(() => response.end(`${tarball.slice(12)} http://127.0.0.1.example/`))
  })
  const { guest } = open({ registries: [registry(url)], network: [new URL(url).host] })
  const client = await guest()
  const npm = (path: string, method = 'GET') => client.ask(ask(path, method, { ':authority': 'npm-acme.upstream' }))
  const packument = await npm('/repo/@acme%2fx')
  expect(packument.body.endsWith('http://npm-acme.upstream/repo/x/-/x-1.0.0.tgz http://127.0.0.1.example/')).toBe(true)
  expect(seen[0]).toMatchObject({ url: '/repo/@acme%2fx', headers: { authorization: `Bearer ${SECRET}` } })
  expect((await npm('/repo/@acme%2fx', 'PUT')).status).toBe(403)
  expect((await npm('/other/x')).status).toBe(403)
  expect((await npm('/repo%2f..%2fother')).status).toBe(400)
  expect(seen).toHaveLength(1)
})

test('what a guest sends as the body of a GET is no request, and a body of the wrong length never a whole one', async () => {
  const heard: string[] = []
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (data) => {
      heard.push(data.toString())
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  stack.defer(() => void server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const client = await open({ settings: [jira(url)] }).guest()
  const smuggled = 'DELETE /all HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n'
  for (const more of [{}, { 'content-length': smuggled.length }]) {
    const answer = await client.ask(ask('/jira/x', 'GET', more), smuggled).catch(() => ({ status: 0 }))
    expect([0, 200]).toContain(answer.status)
  }
  await client.ask(ask('/jira/y'))
  await client.ask(ask('/jira/z', 'POST', { 'content-length': 2 }), smuggled).catch(() => undefined)
  expect(heard.join('')).not.toContain('DELETE')
})

test('an upstream that is not there gives 502 with the reason', async () => {
  const answer = await (await open({ settings: [jira('http://127.0.0.1:1')] }).guest()).ask(ask('/jira/x'))
  expect([answer.status, answer.body]).toEqual([502, expect.stringContaining('ECONNREFUSED')])
})

test('over TLS the server must be one that this host trusts', async () => {
  const { ca, key, cert } = await makeCertificates('IP:127.0.0.1')
  const server = createTlsServer({ key, cert }, (request, response) =>
    response.end(request.headers.authorization),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  stack.defer(() => {
    server.close()
    server.closeAllConnections()
  })
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const trusting = await open({ settings: [jira(url)], certificates: [ca] }).guest()
  expect((await trusting.ask(ask('/jira/x'))).body).toBe(`Bearer ${SECRET}`)
  const strict = await (await open({ settings: [jira(url)], certificates: [] }).guest()).ask(ask('/jira/x'))
  expect(strict.status).toBe(502)
  expect(strict.body).not.toContain(SECRET)
})
