import { createRoute, z } from '@hono/zod-openapi'
import { upgradeWebSocket } from '@hono/node-server'
import { WebSocket } from 'ws'
import { EventQuery, type TaskEvent } from '../../contracts/event.ts'
import { VivariumError } from '../../contracts/errors.ts'
import { TaskId } from '../../contracts/ids.ts'
import { requirePart } from '../../contracts/removed.ts'
import { isFinal } from '../../contracts/task.ts'
import { asVivariumError } from '../problem.ts'
import { newRouter, problems, schemas } from '../router.ts'
import { type SseEvent, sseResponse, wantsSse } from '../sse.ts'
import type { ApiOptions, ApiServices } from '../types.ts'
import { pump } from '../websocket.ts'

const params = z.object({ id: TaskId })

/** An id that is none of ours is ignored: the reader then gets everything. */
const LastEventId = z.coerce
  .number()
  .int()
  .nonnegative()
  .optional()
  .catch(undefined)
  .openapi({ type: 'integer', description: 'Go on after this seq' })

const events = createRoute({
  method: 'get',
  path: '/tasks/{id}/events',
  summary: "A task's events: a page of them, or with Accept: text/event-stream history and then live",
  request: { params, query: EventQuery, headers: z.object({ 'last-event-id': LastEventId }) },
  responses: {
    200: {
      description:
        'Events, oldest first. The stream closes with a message "end" after the last one; without it, ask again with Last-Event-ID.',
      content: {
        'application/json': { schema: schemas.eventList },
        'text/event-stream': { schema: schemas.event },
      },
    },
    ...problems,
  },
})

const stream = createRoute({
  method: 'get',
  path: '/tasks/{id}/stream',
  summary:
    'The same over WebSocket, one JSON event a message; closes with 1000 after the last one, with 1012 when the server restarts',
  request: { params, query: EventQuery.pick({ from: true }) },
  responses: { 101: { description: 'Switching to WebSocket' }, ...problems },
})

export function eventRoutes(services: ApiServices, options: ApiOptions) {
  const router = newRouter()
  const { tasks, events: log } = services

  async function page(taskId: string, from: number, limit: number) {
    const items = await log.read(taskId, from, limit)
    const last = items.at(-1)
    if (last === undefined) return { items }
    const more = await log.read(taskId, last.seq + 1, 1)
    return more.length === 0 ? { items } : { items, nextFrom: last.seq + 1 }
  }

  /** Whether there is nothing to come: a log that was closed under a reader ends too, but is to be asked again. */
  async function isOver(userId: string, taskId: string): Promise<boolean> {
    return isFinal((await tasks.outline(userId, taskId)).status)
  }

  async function* sse(userId: string, taskId: string, from: number, signal: AbortSignal): AsyncGenerator<SseEvent> {
    for await (const { seq, json } of log.followJson(taskId, from, signal)) yield { id: seq, json }
    if (signal.aborted) return
    if (await isOver(userId, taskId)) yield { event: 'end', data: {} }
    else yield { comeBack: 'the server restarts: ask again with Last-Event-ID' }
  }

  router.openapi(events, async (c) => {
    const { id } = c.req.valid('param')
    const query = c.req.valid('query')
    const userId = c.get('user').id
    requirePart(await tasks.outline(userId, id), 'events')
    if (!wantsSse(c.req.header('accept'))) return c.json(await page(id, query.from, query.limit), 200)
    const lastSeen = c.req.valid('header')['last-event-id']
    const reader = new AbortController()
    const signal = AbortSignal.any([reader.signal, c.req.raw.signal])
    return sseResponse(sse(userId, id, lastSeen === undefined ? query.from : lastSeen + 1, signal), {
      heartbeatMs: options.heartbeatMs,
      reader,
      onError: (thrown) => reported(thrown, c.req.path),
    })
  })

  router.openAPIRegistry.registerPath(stream)
  router.get(
    '/tasks/:id/stream',
    upgradeWebSocket(async (c) => {
      const userId: string = c.get('user').id
      const { id, from } = parseStream(c.req.param('id'), c.req.query('from'))
      requirePart(await tasks.outline(userId, id), 'events')
      return {
        onOpen(_event, { raw }) {
          if (!(raw instanceof WebSocket)) throw new TypeError('not a socket of ours')
          void pump(raw, (signal) => log.followJson(id, from, signal), {
            heartbeatMs: options.heartbeatMs,
            isOver: () => isOver(userId, id),
            onError: (thrown) => reported(thrown, c.req.path),
          })
        },
      }
    }),
    () => {
      throw new VivariumError('invalid_request', 'This is a WebSocket; use /events for JSON or server-sent events.')
    },
  )
  return router

  function reported(thrown: unknown, path: string): VivariumError {
    const error = asVivariumError(thrown)
    if (error.blame !== 'user') services.onError(error, { method: 'GET', path })
    return error
  }
}

function parseStream(id: string | undefined, from: string | undefined): { id: string; from: TaskEvent['seq'] } {
  const taskId = TaskId.safeParse(id)
  if (!taskId.success) throw new VivariumError('not_found', 'There is no such id.')
  const query = EventQuery.pick({ from: true }).safeParse({ from })
  if (!query.success)
    throw new VivariumError('invalid_request', '"from" must be a number from 1 on.', { field: 'from' })
  return { id: taskId.data, from: query.data.from }
}
