import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { VivariumError } from '../../contracts/errors.ts'
import { TaskId } from '../../contracts/ids.ts'
import { requirePart } from '../../contracts/removed.ts'
import { isConfinedPath } from '../../contracts/paths.ts'
import { guestHeaders, parseRange, webStream } from '../guest-bytes.ts'
import { problemResponse } from '../problem.ts'
import { answers, bytes, newRouter, problems, schemas } from '../router.ts'
import type { ApiServices, AppEnv } from '../types.ts'

const params = z.object({ id: TaskId })

const list = createRoute({
  method: 'get',
  path: '/tasks/{id}/files',
  summary: 'The files a task brought back',
  request: { params },
  responses: { 200: answers(schemas.fileList, 'The files'), ...problems },
})

const file = createRoute({
  method: 'get',
  path: '/tasks/{id}/files/{path}',
  summary: 'One file; `path` may hold slashes',
  request: {
    params: params.extend({ path: z.string() }),
    headers: z.object({ range: z.string().optional().openapi({ description: 'One byte range, e.g. bytes=0-99' }) }),
  },
  responses: {
    200: bytes('*/*', 'The file'),
    206: bytes('*/*', 'The range asked for'),
    ...problems,
  },
})

const archive = createRoute({
  method: 'get',
  path: '/tasks/{id}/archive',
  summary: 'All files',
  request: { params },
  responses: { 200: bytes('application/gzip', 'A gzipped tar'), ...problems },
})

const patch = createRoute({
  method: 'get',
  path: '/tasks/{id}/patch',
  summary: "The task's changes",
  request: { params },
  responses: { 200: bytes('text/x-diff', 'A git patch'), ...problems },
})

export function resultRoutes({ tasks }: ApiServices) {
  const router = newRouter()

  router.openapi(list, async (c) => {
    const task = await tasks.get(c.get('user').id, c.req.valid('param').id)
    requirePart(task, 'files')
    const { files } = task
    return c.json({ items: files }, 200)
  })

  // The router's own syntax for a parameter with slashes is none of OpenAPI's, so the path is described apart.
  router.openAPIRegistry.registerPath(file)
  router.get('/tasks/:id/files/:path{.+}', (c) => sendFile(c, fileParams(c.req.param())))

  async function sendFile(c: Context<AppEnv>, { id, path }: { id: string; path: string }): Promise<Response> {
    const userId = c.get('user').id
    const task = await tasks.get(userId, id)
    requirePart(task, 'files')
    const entry = task.files.find((candidate) => candidate.path === path)
    if (entry === undefined) throw new VivariumError('not_found', `The task brought back no file "${path}".`)
    const headers = { ...guestHeaders(entry.mimeType, path.split('/').at(-1) ?? path), 'accept-ranges': 'bytes' }
    // `If-Range` names a version, and we hand out no names for versions: the whole file is the safe answer.
    const wanted = c.req.header('if-range') === undefined ? c.req.header('range') : undefined
    const range = parseRange(wanted, entry.size)
    if (range === 'unsatisfiable') {
      const refusal = new VivariumError('range_not_satisfiable', `"${path}" ends at byte ${entry.size}.`)
      return problemResponse(refusal, { 'content-range': `bytes */${entry.size}` })
    }
    const length = range === undefined ? entry.size : range.end - range.start + 1
    const body = c.req.method === 'HEAD' ? null : webStream((await tasks.file(userId, id, path, range)).body)
    if (range === undefined) return new Response(body, { headers: { ...headers, 'content-length': String(length) } })
    return new Response(body, {
      status: 206,
      headers: {
        ...headers,
        'content-length': String(length),
        'content-range': `bytes ${range.start}-${range.end}/${entry.size}`,
      },
    })
  }

  router.openapi(archive, async (c) => {
    const { id } = c.req.valid('param')
    const headers = guestHeaders('application/gzip', `${id}.tar.gz`)
    return new Response(webStream(await tasks.archive(c.get('user').id, id)), { headers })
  })

  router.openapi(patch, async (c) => {
    const { id } = c.req.valid('param')
    const body = await tasks.patch(c.get('user').id, id)
    return new Response(webStream(body), { headers: guestHeaders('text/x-diff', `${id}.patch`) })
  })
  return router
}

function fileParams(raw: Record<string, string | undefined>): { id: string; path: string } {
  const id = TaskId.safeParse(raw['id'])
  if (!id.success) throw new VivariumError('not_found', 'There is no such id.')
  const path = raw['path'] ?? ''
  if (!isConfinedPath(path)) throw new VivariumError('invalid_request', 'That is no path of a file.', { field: 'path' })
  return { id: id.data, path }
}
