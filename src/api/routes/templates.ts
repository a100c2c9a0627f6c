import { createRoute, z } from '@hono/zod-openapi'
import { VivariumError } from '../../contracts/errors.ts'
import { type TemplateEvent, TemplateName, TemplateRequest } from '../../contracts/template.ts'
import { requireOwner } from '../edge/auth.ts'
import { jsonBody } from '../edge/body.ts'
import { asVivariumError } from '../problem.ts'
import { withProgress } from '../progress.ts'
import { answers, empty, newRouter, problems, schemas, takes } from '../router.ts'
import { type SseEvent, sseResponse, untilEnding, wantsSse } from '../sse.ts'
import type { ApiOptions, ApiServices } from '../types.ts'

const params = z.object({ name: TemplateName })

const list = createRoute({
  method: 'get',
  path: '/templates',
  summary: 'List templates: saved machines that others start from, one for each name and size',
  responses: { 200: answers(schemas.templateList, 'The templates'), ...problems },
})

const get = createRoute({
  method: 'get',
  path: '/templates/{name}',
  summary: 'The sizes of one template',
  request: { params },
  responses: { 200: answers(schemas.templateList, 'One for each size'), ...problems },
})

const build = createRoute({
  method: 'post',
  path: '/templates',
  summary:
    'Build a template unless it is there and fits (owner): answers when it is there, with Accept: text/event-stream live',
  middleware: jsonBody(),
  request: { body: takes(TemplateRequest) },
  responses: {
    200: {
      description: 'The template; or progress as it is made, the last message being "done"',
      content: {
        'application/json': { schema: schemas.template },
        'text/event-stream': { schema: schemas.templateEvent },
      },
    },
    ...problems,
  },
})

const remove = createRoute({
  method: 'delete',
  path: '/templates/{name}',
  summary: 'Remove every size of a template (owner); machines that run from it go on',
  request: { params },
  responses: { 204: empty, ...problems },
})

export function templateRoutes(services: ApiServices, options: ApiOptions) {
  const router = newRouter()
  const { templates, identity } = services
  const { ending } = services.shutdown

  router.on('POST', '/templates', requireOwner(identity))
  router.on('DELETE', '/templates/:name', requireOwner(identity))
  router.openapi(list, async (c) => c.json({ items: await templates.list() }, 200))
  router.openapi(get, async (c) => c.json({ items: await sizesOf(templates, c.req.valid('param').name) }, 200))
  router.openapi(build, async (c) => {
    const request = c.req.valid('json')
    if (!wantsSse(c.req.header('accept'))) {
      return c.json(await templates.build(request, { signal: AbortSignal.any([c.req.raw.signal, ending]) }), 200)
    }
    const reader = new AbortController()
    const signal = AbortSignal.any([reader.signal, c.req.raw.signal, ending])
    return sseResponse(untilEnding(messages(templates, request, signal), ending), {
      heartbeatMs: options.heartbeatMs,
      reader,
      onError(thrown) {
        const error = asVivariumError(thrown)
        if (error.blame !== 'user') services.onError(error, { method: 'POST', path: c.req.path })
        return error
      },
    })
  })
  router.openapi(remove, async (c) => {
    const { name } = c.req.valid('param')
    await sizesOf(templates, name)
    await templates.remove(name)
    return c.body(null, 204)
  })
  return router
}

/** Rejects with `not_found` where there is none. */
async function sizesOf(templates: ApiServices['templates'], name: string) {
  const sizes = (await templates.list()).filter((template) => template.name === name)
  if (sizes.length === 0) throw new VivariumError('not_found', `There is no template ${name}.`)
  return sizes
}

async function* messages(
  templates: ApiServices['templates'],
  request: TemplateRequest,
  signal: AbortSignal,
): AsyncGenerator<SseEvent> {
  for await (const news of withProgress((progress) => templates.build(request, { progress, signal }))) {
    const data: TemplateEvent =
      'update' in news ? { kind: 'progress', ...news.update } : { kind: 'done', template: news.result }
    yield { data }
  }
}
