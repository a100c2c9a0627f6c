import { expect, test } from 'vitest'
import { Problem } from '../contracts/errors.ts'
import { createApp } from './app.ts'
import { fakeOptions, fakeServices } from './testing/fake-services.ts'
import type { ApiOptions } from './types.ts'

function setUp(options: Partial<ApiOptions> = {}) {
  const fakes = fakeServices()
  const app = createApp(fakes.services, { ...fakeOptions, ...options })
  async function ask(path: string, init: RequestInit & { base?: string; key?: string | null } = {}) {
    const { base = 'http://127.0.0.1:8080', key = 'vv_ada', ...rest } = init
    const headers = new Headers(rest.headers)
    if (key !== null) headers.set('authorization', `Bearer ${key}`)
    return app.fetch(new Request(base + path, { ...rest, headers }))
  }
  function post(path: string, body: unknown, headers: Record<string, string> = {}) {
    return ask(path, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', ...headers },
    })
  }
  return { ...fakes, app, ask, post }
}

async function problemOf(response: Response): Promise<Problem> {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  const problem = Problem.parse(await response.json())
  expect(problem.status).toBe(response.status)
  return problem
}

test('a request without a valid key is refused as a JSON problem that offers no OAuth', async () => {
  const { ask } = setUp()
  for (const key of [null, 'vv_wrong', 'x'.repeat(500)]) {
    for (const path of ['/api/v1/tasks', '/api/v1/nothing', '/metrics', '/mcp']) {
      const response = await ask(path, { key })
      expect(response.headers.get('www-authenticate')).toBe('Bearer realm="vivarium"')
      expect(await problemOf(response)).toMatchObject({ status: 401, code: 'unauthenticated' })
    }
  }
})

test('health, readiness and the API description ask for no key', async () => {
  const { ask } = setUp()
  for (const path of ['/health', '/ready', '/api/v1/health', '/api/v1/ready', '/api/v1/openapi.json', '/api/docs']) {
    expect((await ask(path, { key: null })).status).toBe(200)
  }
})

test('a server that can run no task is not ready, and says why', async () => {
  const { app, services } = setUp()
  services.notReady = async () => 'There is no guest image yet: run "vivarium image build".'
  const problem = await problemOf(await app.fetch(new Request('http://localhost/ready')))
  expect(problem).toMatchObject({ status: 503, code: 'setup_required', detail: expect.stringContaining('image build') })
})

test('a name that is not ours is refused, so that no page can rebind its name to this server', async () => {
  const { ask } = setUp({ publicHosts: ['box.example', 'proxy.example:8443'] })
  const refused = [
    'http://evil.example:8080',
    'http://10.1.2.3:8080',
    'http://127.0.0.1.evil.example',
    'http://proxy.example',
  ]
  for (const base of refused) {
    for (const path of ['/api/v1/tasks', '/', '/mcp', '/health']) {
      expect(await problemOf(await ask(path, { base }))).toMatchObject({ code: 'forbidden' })
    }
  }
  const ours = [
    'http://localhost:8080',
    'http://[::1]:8080',
    'http://box.example',
    'http://BOX.example:99',
    'http://proxy.example:8443',
  ]
  for (const base of ours) expect((await ask('/api/v1/tasks', { base })).status).toBe(200)
})

test('a Host header that differs from the request target is judged too', async () => {
  const { ask } = setUp()
  expect((await ask('/api/v1/tasks', { headers: { host: 'evil.example' } })).status).toBe(403)
})

test('where we listen everywhere, addresses are ours and unknown names are not', async () => {
  const { ask } = setUp({ listenHost: '0.0.0.0' })
  expect((await ask('/api/v1/tasks', { base: 'http://192.168.7.7:8080' })).status).toBe(200)
  expect((await ask('/api/v1/tasks', { base: 'http://[fd00::7]:8080' })).status).toBe(200)
  expect((await ask('/api/v1/tasks', { base: 'http://evil.example:8080' })).status).toBe(403)
})

test("another site's page can change nothing, even with the dashboard's cookie", async () => {
  const { ask } = setUp({ publicHosts: ['box.example'] })
  const submit = (origin: string, base?: string) =>
    ask('/api/v1/tasks', {
      method: 'POST',
      key: null,
      ...(base === undefined ? {} : { base }),
      body: '{"prompt":"hi"}',
      headers: { 'content-type': 'application/json', cookie: 'vivarium_key=vv_ada', origin },
    })
  for (const origin of ['http://evil.example', 'http://127.0.0.1:3000', 'http://localhost:8080', 'null', 'file://']) {
    expect(await problemOf(await submit(origin))).toMatchObject({ code: 'forbidden' })
  }
  expect((await submit('http://127.0.0.1:8080')).status).toBe(202)
  expect((await submit('https://box.example', 'http://box.example')).status).toBe(202)
  expect((await submit('https://box.example')).status).toBe(202)
})

test('a body that is no JSON is refused by its type, before anybody reads it', async () => {
  const { ask } = setUp()
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
    const response = await ask('/api/v1/tasks', {
      method: 'POST',
      body: '{"prompt":"hi"}',
      headers: { 'content-type': type },
    })
    expect(await problemOf(response)).toMatchObject({ status: 415, code: 'unsupported_media_type' })
  }
})

test('broken JSON, unknown and invalid fields are refused, and the field is named', async () => {
  const { ask, post } = setUp()
  const broken = await ask('/api/v1/tasks', {
    method: 'POST',
    body: '{"prompt":',
    headers: { 'content-type': 'application/json' },
  })
  expect(await problemOf(broken)).toMatchObject({ code: 'invalid_request' })
  expect(await problemOf(await post('/api/v1/tasks', { prompt: '' }))).toMatchObject({ field: 'prompt' })
  expect(await problemOf(await post('/api/v1/tasks', { prompt: 'x', colour: 'red' }))).toMatchObject({
    field: 'colour',
  })
  const escaping = { prompt: 'x', files: [{ path: '../../etc/passwd', contentBase64: '' }] }
  expect(await problemOf(await post('/api/v1/tasks', escaping))).toMatchObject({ field: 'files.0.path' })
  expect(await problemOf(await ask('/api/v1/tasks?limit=0'))).toMatchObject({ code: 'invalid_request', field: 'limit' })
  expect(await problemOf(await ask('/api/v1/tasks/nonsense'))).toMatchObject({ code: 'not_found' })
})

test('a body beyond its cap is refused, with and without a declared length', async () => {
  const { ask, post } = setUp()
  const big = JSON.stringify({ label: 'x'.repeat(2 * 1024 * 1024) })
  const headers = { 'content-type': 'application/json' }
  expect(await problemOf(await ask('/api/v1/keys', { method: 'POST', body: big, headers }))).toMatchObject({
    code: 'too_large',
  })
  const streamed = await ask('/api/v1/keys', {
    method: 'POST',
    body: new Blob([big]).stream(),
    duplex: 'half',
    headers,
  })
  expect(await problemOf(streamed)).toMatchObject({ status: 413, code: 'too_large' })
  const files = [{ path: 'a.bin', contentBase64: 'QUJD'.repeat(3 * 1024 * 1024) }]
  expect((await post('/api/v1/tasks', { prompt: 'x', files })).status).toBe(202)
})

test('unknown API paths, OAuth discovery and registration are JSON 404s, never the dashboard', async () => {
  const { ask } = setUp()
  const paths = [
    '/api/v1/nothing',
    '/api/nothing',
    '/.well-known/oauth-protected-resource',
    '/.well-known/oauth-protected-resource/mcp',
    '/.well-known/oauth-authorization-server',
    '/.well-known/openid-configuration',
    '/register',
  ]
  for (const path of paths) {
    for (const method of ['GET', 'POST']) {
      expect(await problemOf(await ask(path, { method })), `${method} ${path}`).toMatchObject({ code: 'not_found' })
    }
  }
})

test('the dashboard answers every other path with a strict policy, and its hashed files for ever', async () => {
  const { ask } = setUp()
  for (const path of ['/', '/tasks/t_0123456789ab']) {
    const page = await ask(path, { key: null })
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(page.headers.get('content-security-policy')).toContain("script-src 'self'")
    expect(page.headers.get('content-security-policy')).not.toContain('unsafe')
    expect(page.headers.get('cache-control')).toBe('no-cache')
  }
  const script = await ask('/assets/index-a1B2_c3D.js', { key: null })
  expect(script.headers.get('content-type')).toBe('text/javascript; charset=utf-8')
  expect(script.headers.get('cache-control')).toContain('immutable')
  expect((await ask('/favicon.svg', { key: null })).headers.get('content-type')).toBe('image/svg+xml')
  expect((await ask('/assets/gone-00000000.js', { key: null })).status).toBe(404)
})

test('a browser trades its key for a cookie that scripts and other sites cannot use', async () => {
  const { ask, post } = setUp()
  expect(await problemOf(await post('/api/v1/session', { key: 'vv_wrong' }))).toMatchObject({ code: 'unauthenticated' })
  const session = await post('/api/v1/session', { key: 'vv_ada' })
  const cookie = session.headers.get('set-cookie') ?? ''
  expect(cookie).toMatch(/^vivarium_key=vv_ada;/)
  for (const attribute of ['HttpOnly', 'SameSite=Strict', 'Path=/']) expect(cookie).toContain(attribute)
  const me = await ask('/api/v1/me', { key: null, headers: { cookie: 'vivarium_key=vv_ada' } })
  expect(await me.json()).toMatchObject({ name: 'ada', isOwner: false })
  expect((await ask('/mcp', { key: null, headers: { cookie: 'vivarium_key=vv_ada' } })).status).toBe(401)
  const out = await ask('/api/v1/session', { method: 'DELETE', key: null })
  expect(out.headers.get('set-cookie')).toContain('Max-Age=0')
})

test('what we did wrong is logged, and its text stays here', async () => {
  const { ask, services, errors } = setUp()
  services.tasks.list = async () => Promise.reject(new Error('SQLITE_CORRUPT at /secret/path'))
  const problem = await problemOf(await ask('/api/v1/tasks'))
  expect(problem.code).toBe('internal')
  expect(problem.detail).not.toContain('secret')
  expect(errors.map((error) => String(error.cause))).toEqual(['Error: SQLITE_CORRUPT at /secret/path'])
})

test('metrics are readable by Prometheus', async () => {
  const { ask, post } = setUp()
  await post('/api/v1/tasks', { prompt: 'x' })
  const text = await (await ask('/metrics')).text()
  expect(text).toContain('# TYPE vivarium_tasks_active gauge\nvivarium_tasks_active 1\n')
  expect(text).toContain('vivarium_machines{state="ready"} 2\n')
})
