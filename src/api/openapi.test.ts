import { expect, test } from 'vitest'
import { z } from 'zod'
import { createApp } from './app.ts'
import { fakeOptions, fakeServices } from './testing/fake-services.ts'

const Document = z.object({
  openapi: z.string(),
  paths: z.record(z.string(), z.record(z.string(), z.object({ responses: z.record(z.string(), z.unknown()) }))),
  components: z.object({ schemas: z.record(z.string(), z.unknown()) }),
})

async function openapi() {
  const app = createApp(fakeServices().services, fakeOptions)
  return Document.parse(await (await app.fetch(new Request('http://localhost/api/v1/openapi.json'))).json())
}

test('the document describes every route', async () => {
  const { paths } = await openapi()
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  )
  expect(routes.toSorted()).toMatchInlineSnapshot(`
    [
      "DELETE /api/v1/keys/{id}",
      "DELETE /api/v1/secrets/{name}",
      "DELETE /api/v1/session",
      "DELETE /api/v1/tasks/{id}",
      "DELETE /api/v1/templates/{name}",
      "DELETE /api/v1/users/{id}",
      "DELETE /api/v1/vms/{id}",
      "GET /api/v1/health",
      "GET /api/v1/keys",
      "GET /api/v1/leaks",
      "GET /api/v1/me",
      "GET /api/v1/metrics",
      "GET /api/v1/ready",
      "GET /api/v1/secrets",
      "GET /api/v1/secrets/audit",
      "GET /api/v1/tasks",
      "GET /api/v1/tasks/{id}",
      "GET /api/v1/tasks/{id}/archive",
      "GET /api/v1/tasks/{id}/events",
      "GET /api/v1/tasks/{id}/files",
      "GET /api/v1/tasks/{id}/files/{path}",
      "GET /api/v1/tasks/{id}/patch",
      "GET /api/v1/tasks/{id}/stream",
      "GET /api/v1/templates",
      "GET /api/v1/templates/{name}",
      "GET /api/v1/usage",
      "GET /api/v1/users",
      "GET /api/v1/version",
      "GET /api/v1/vms",
      "GET /api/v1/vms/{id}",
      "GET /api/v1/vms/{id}/files",
      "GET /api/v1/vms/{id}/shell",
      "POST /api/v1/keys",
      "POST /api/v1/secrets/rotate",
      "POST /api/v1/session",
      "POST /api/v1/tasks",
      "POST /api/v1/tasks/{id}/cancel",
      "POST /api/v1/tasks/{id}/fork",
      "POST /api/v1/templates",
      "POST /api/v1/uploads",
      "POST /api/v1/users",
      "POST /api/v1/vms",
      "POST /api/v1/vms/{id}/exec",
      "POST /api/v1/vms/{id}/resume",
      "POST /api/v1/vms/{id}/suspend",
      "PUT /api/v1/secrets/{name}",
      "PUT /api/v1/vms/{id}/files",
    ]
  `)
})

test('every route served under /api/v1 is described, and every described one is served', async () => {
  const app = createApp(fakeServices().services, fakeOptions)
  const served = app.routes
    .filter((route) => route.method !== 'ALL' && route.path.startsWith('/api/v1/'))
    .map((route) => `${route.method} ${route.path.replace(/:(\w+)(\{[^}]*\})?/g, '{$1}')}`)
  const { paths } = await openapi()
  const described = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  )
  expect([...new Set(served)].filter((route) => route !== 'GET /api/v1/openapi.json').toSorted()).toEqual(
    described.toSorted(),
  )
})

test('every reference in the document leads somewhere, and every route may answer with a problem', async () => {
  const document = await openapi()
  const references = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map((match) => match[1])
  expect(references.length).toBeGreaterThan(20)
  for (const name of references) expect(Object.keys(document.components.schemas)).toContain(name)
  for (const [path, methods] of Object.entries(document.paths)) {
    const free = ['/api/v1/health', '/api/v1/metrics'].includes(path)
    for (const [method, operation] of Object.entries(methods)) {
      if (free || (method === 'delete' && path === '/api/v1/session')) continue
      expect(Object.keys(operation.responses), `${method} ${path}`).toContain('default')
    }
  }
})

test('the page shows every route and loads nothing', async () => {
  const app = createApp(fakeServices().services, fakeOptions)
  const response = await app.fetch(new Request('http://localhost/api/docs'))
  const page = await response.text()
  expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
  for (const path of Object.keys((await openapi()).paths)) expect(page).toContain(path)
  expect(page).not.toMatch(/<script|<link|src=/)
})

test('the document asks for a key everywhere but where none is needed', async () => {
  const { services } = fakeServices()
  const response = await createApp(services, fakeOptions).request('http://127.0.0.1/api/v1/openapi.json')
  const { paths, security } = (await response.json()) as {
    paths: Record<string, Record<string, { security?: unknown[] }>>
    security: unknown[]
  }
  expect(security).toEqual([{ key: [] }])
  const open = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) =>
      operation.security?.length === 0 ? [`${method} ${path}`] : [],
    ),
  )
  expect(open).toEqual(['get /api/v1/health', 'get /api/v1/ready', 'post /api/v1/session', 'delete /api/v1/session'])
})
