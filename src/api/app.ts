import type { OpenAPIHono } from '@hono/zod-openapi'
import { VivariumError } from '../contracts/errors.ts'
import { serveDashboard } from './dashboard.ts'
import { DOCS_CSP, renderDocs } from './docs.ts'
import { requireBearer, requireUser } from './edge/auth.ts'
import { defaultHeaders } from './edge/headers.ts'
import { hostCheck, originCheck } from './edge/hosts.ts'
import { refuseNewWork } from './edge/shutdown.ts'
import { errorHandler } from './problem.ts'
import { newRouter } from './router.ts'
import { eventRoutes } from './routes/events.ts'
import { execRoutes } from './routes/exec.ts'
import { machineRoutes } from './routes/machines.ts'
import { peopleRoutes, sessionRoutes } from './routes/people.ts'
import { resultRoutes } from './routes/results.ts'
import { secretRoutes } from './routes/secrets.ts'
import { metricsRoutes, probeRoutes, serverRoutes } from './routes/server.ts'
import { shellRoutes } from './routes/shell.ts'
import { taskRoutes } from './routes/tasks.ts'
import { templateRoutes } from './routes/templates.ts'
import type { ApiOptions, ApiServices, AppEnv } from './types.ts'

/**
 * The whole of what listens: REST, MCP, dashboard. Has no socket of its own; `app.fetch` answers requests, `startServer`
 * puts it on a port.
 */
export function createApp(services: ApiServices, options: ApiOptions): OpenAPIHono<AppEnv> {
  const app = newRouter()
  app.onError(errorHandler(services))
  app.notFound((c) => errorHandler(services)(new VivariumError('not_found', `There is no ${c.req.path} here.`), c))
  app.use(defaultHeaders, hostCheck(options), originCheck(options))

  mountApi(app, services, options)
  mountDocs(app, options)

  app.all('/mcp', requireBearer(services.identity), (c) =>
    services.mcp(c.req.raw, {
      userId: c.get('user').id,
      apiKey: c.get('apiKey'),
      url: new URL(c.req.url).origin,
      fetch: (request) => app.fetch(request),
    }),
  )
  // MCP clients without a key look here for OAuth, and take whatever page they get for an answer.
  for (const path of ['/api/*', '/.well-known/*', '/register']) app.all(path, (c) => c.notFound())
  app.get('*', serveDashboard(services.assets))
  return app
}

function mountApi(app: OpenAPIHono<AppEnv>, services: ApiServices, options: ApiOptions): void {
  // Supervisors and Prometheus look at the root by habit.
  for (const path of ['/health', '/ready', '/metrics']) {
    app.get(path, (c) => app.fetch(new Request(new URL(`/api/v1${path}`, c.req.url), { headers: c.req.raw.headers })))
  }
  app.route('/api/v1', probeRoutes(services))
  app.route('/api/v1', sessionRoutes(services))
  app.get('/api/v1/openapi.json', (c) => c.json(openApi(app, options)))
  app.use('/api/v1/*', requireUser(services.identity), refuseNewWork(services.shutdown))
  app.route('/api/v1', taskRoutes(services, options))
  app.route('/api/v1', eventRoutes(services, options))
  app.route('/api/v1', resultRoutes(services))
  app.route('/api/v1', machineRoutes(services, options))
  app.route('/api/v1', execRoutes(services, options))
  app.route('/api/v1', shellRoutes(services, options))
  app.route('/api/v1', templateRoutes(services, options))
  app.route('/api/v1', peopleRoutes(services))
  app.route('/api/v1', secretRoutes(services))
  app.route('/api/v1', metricsRoutes(services, options))
  app.route('/api/v1', serverRoutes(services))
}

function mountDocs(app: OpenAPIHono<AppEnv>, options: ApiOptions): void {
  app.openAPIRegistry.registerComponent('securitySchemes', 'key', {
    type: 'http',
    scheme: 'bearer',
    description: 'An API key: vv_…',
  })
  app.get('/api/docs', (c) => c.html(renderDocs(openApi(app, options)), 200, { 'content-security-policy': DOCS_CSP }))
}

function openApi(app: OpenAPIHono<AppEnv>, options: ApiOptions) {
  return app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Vivarium',
      version: options.version,
      description: 'Runs Claude Code in throwaway microVMs. Errors are RFC 9457 problem details with a code.',
    },
    security: [{ key: [] }],
  })
}
