import { createRoute, z } from '@hono/zod-openapi'
import { TaskId } from '../../contracts/ids.ts'
import { TaskQuery } from '../../contracts/task.ts'
import { jsonBody, mediaType, streamedBody } from '../edge/body.ts'
import { VivariumError } from '../../contracts/errors.ts'
import { answers, empty, newRouter, problems, schemas, takes } from '../router.ts'
import type { ApiOptions, ApiServices } from '../types.ts'

/** Files travel in the request as base64, which makes them a third larger. */
const MAX_TASK_BYTES = 64 * 1024 * 1024

const params = z.object({ id: TaskId })

const submit = createRoute({
  method: 'post',
  path: '/tasks',
  summary: 'Queue a task',
  middleware: jsonBody(MAX_TASK_BYTES),
  request: {
    headers: z.object({
      'idempotency-key': z.string().min(1).max(200).optional().openapi({
        description: 'Asking again with the same key and the same request gives the same task.',
      }),
    }),
    body: takes(schemas.taskRequest),
  },
  responses: { 202: answers(schemas.task, 'The task, queued'), ...problems },
})

const list = createRoute({
  method: 'get',
  path: '/tasks',
  summary: 'List tasks, newest first',
  request: { query: TaskQuery },
  responses: { 200: answers(schemas.taskList, 'A page of tasks'), ...problems },
})

const get = createRoute({
  method: 'get',
  path: '/tasks/{id}',
  summary: 'One task',
  request: { params },
  responses: { 200: answers(schemas.task, 'The task'), ...problems },
})

const cancel = createRoute({
  method: 'post',
  path: '/tasks/{id}/cancel',
  summary: 'Stop a task; its files are still collected',
  request: { params },
  responses: { 200: answers(schemas.task, 'The task'), ...problems },
})

const fork = createRoute({
  method: 'post',
  path: '/tasks/{id}/fork',
  summary:
    'Branch off from a finished task: so many attempts, each a task with a copy of its workspace and conversation',
  middleware: jsonBody(),
  request: { params, body: takes(schemas.forkRequest) },
  responses: { 202: answers(schemas.taskList, 'The attempts, queued'), ...problems },
})

const remove = createRoute({
  method: 'delete',
  path: '/tasks/{id}',
  summary: 'Forget a finished task, its events and files',
  request: { params },
  responses: { 204: empty, ...problems },
})

const upload = createRoute({
  method: 'post',
  path: '/uploads',
  summary: 'Send a workspace as a tar stream, for the uploadId of a task',
  request: {
    body: { required: true, content: { 'application/x-tar': { schema: z.string().openapi({ format: 'binary' }) } } },
  },
  responses: { 201: answers(schemas.upload, 'The upload'), ...problems },
})

export function taskRoutes({ tasks }: ApiServices, options: ApiOptions) {
  const router = newRouter()
  router.openapi(submit, async (c) => {
    const idempotencyKey = c.req.valid('header')['idempotency-key']
    const task = await tasks.submit(
      c.get('user').id,
      c.req.valid('json'),
      idempotencyKey === undefined ? {} : { idempotencyKey },
    )
    return c.json(task, 202, { location: `/api/v1/tasks/${task.id}` })
  })
  router.openapi(list, async (c) => c.json(await tasks.list(c.get('user').id, c.req.valid('query')), 200))
  router.openapi(get, async (c) => c.json(await tasks.get(c.get('user').id, c.req.valid('param').id), 200))
  router.openapi(cancel, async (c) => c.json(await tasks.cancel(c.get('user').id, c.req.valid('param').id), 200))
  router.openapi(fork, async (c) => {
    const items = await tasks.fork(c.get('user').id, c.req.valid('param').id, c.req.valid('json'))
    return c.json({ items }, 202)
  })
  router.openapi(remove, async (c) => {
    await tasks.remove(c.get('user').id, c.req.valid('param').id)
    return c.body(null, 204)
  })
  router.openapi(upload, async (c) => {
    if (mediaType(c) !== 'application/x-tar') {
      throw new VivariumError('unsupported_media_type', 'Send a tar stream, with "Content-Type: application/x-tar".')
    }
    return c.json(await tasks.upload(c.get('user').id, streamedBody(c, options.maxUploadBytes)), 201)
  })
  return router
}
