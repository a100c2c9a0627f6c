import { createRoute, z } from '@hono/zod-openapi'
import { VivariumError } from '../../contracts/errors.ts'
import { Health, Ready, UsageQuery } from '../../contracts/server.ts'
import { usageCsv } from '../../contracts/usage-csv.ts'
import { requireOwner } from '../edge/auth.ts'
import { renderMetrics } from '../metrics.ts'
import { answers, bytes, newRouter, problems, schemas } from '../router.ts'
import type { ApiOptions, ApiServices } from '../types.ts'

const health = createRoute({
  method: 'get',
  path: '/health',
  summary: 'Whether the process lives',
  security: [],
  responses: { 200: answers(Health, 'It does') },
})

const ready = createRoute({
  method: 'get',
  path: '/ready',
  summary: 'Whether tasks can run',
  security: [],
  responses: { 200: answers(Ready, 'They can'), ...problems },
})

const metrics = createRoute({
  method: 'get',
  path: '/metrics',
  summary: 'Numbers for Prometheus',
  responses: { 200: bytes('text/plain', 'Prometheus text format') },
})

const version = createRoute({
  method: 'get',
  path: '/version',
  summary: 'This program and each engine found',
  responses: { 200: answers(schemas.version, 'Versions'), ...problems },
})

const leaks = createRoute({
  method: 'get',
  path: '/leaks',
  summary:
    'What was made on this host and nobody owns any more (owner); it is removed when it is still there a minute later',
  responses: { 200: answers(schemas.leakList, 'Leaks; mostly none'), ...problems },
})

const usage = createRoute({
  method: 'get',
  path: '/usage',
  summary: "Tokens and cost: one's own, for the owner everybody's",
  request: { query: UsageQuery },
  responses: {
    200: {
      description: 'Sums',
      content: { 'application/json': { schema: schemas.usageList }, 'text/csv': { schema: z.string() } },
    },
    ...problems,
  },
})

/** Rows of an answer where the query names no number. */
const ROWS = { json: 1000, csv: 100_000 } as const

/** What supervisors ask, without a key. */
export function probeRoutes(services: ApiServices) {
  const router = newRouter()
  router.openapi(health, (c) => c.json({ status: 'ok' as const }, 200))
  router.openapi(ready, async (c) => {
    services.shutdown.draining.throwIfAborted()
    const reason = await services.notReady()
    if (reason !== undefined) throw new VivariumError('setup_required', reason)
    return c.json({ ready: true as const }, 200)
  })
  return router
}

export function metricsRoutes(services: ApiServices, options: ApiOptions) {
  const router = newRouter()
  router.openapi(metrics, (c) => {
    const text = renderMetrics(services, options)
    return c.body(text, 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' })
  })
  return router
}

export function serverRoutes({ identity, usage: report, version: versionInfo, leaks: findLeaks }: ApiServices) {
  const router = newRouter()
  router.use('/leaks', requireOwner(identity))
  router.openapi(version, async (c) => c.json(await versionInfo(), 200))
  router.openapi(leaks, async (c) => c.json({ items: await findLeaks() }, 200))
  router.openapi(usage, async (c) => {
    const { by, split, since, task, limit, format = formatOf(c.req.header('accept')) } = c.req.valid('query')
    const user = c.get('user')
    const items = await report.query({
      by,
      limit: limit ?? ROWS[format],
      ...(split === undefined ? {} : { split }),
      ...(since === undefined ? {} : { since: new Date(since).toISOString() }),
      ...(task === undefined ? {} : { taskId: task }),
      ...(identity.isOwner(user.id) ? {} : { userId: user.id }),
    })
    if (format === 'json') return c.json({ items }, 200)
    return c.text(usageCsv(items, by, split), 200, {
      'content-type': 'text/csv; charset=utf-8',
      'content-disposition': `attachment; filename="usage-by-${by}.csv"`,
    })
  })
  return router
}

/** JSON is what everybody gets who does not ask for a table by name. */
function formatOf(accept: string | undefined): 'json' | 'csv' {
  return accept?.includes('text/csv') === true ? 'csv' : 'json'
}
