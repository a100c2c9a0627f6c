import { createRoute, z } from '@hono/zod-openapi'
import { upgradeWebSocket } from '@hono/node-server'
import type { Context } from 'hono'
import { WebSocket } from 'ws'
import { VivariumError } from '../../contracts/errors.ts'
import { MachineId } from '../../contracts/ids.ts'
import { ShellQuery, type ShellRequest } from '../../contracts/shell.ts'
import { asVivariumError } from '../problem.ts'
import { newRouter, problems } from '../router.ts'
import { serveShell } from '../shell-socket.ts'
import type { ApiOptions, ApiServices, AppEnv } from '../types.ts'

const shell = createRoute({
  method: 'get',
  path: '/vms/{id}/shell',
  summary: 'Talk to a process in a machine over WebSocket, in a terminal where rows and cols are given',
  description:
    'Binary messages are bytes in both directions. Text messages are JSON: the client sends {"type":"resize","rows":N,"cols":N} and {"type":"end"}, ' +
    'the server {"type":"stderr","dataBase64":"…"} of a process without a terminal and, last, {"type":"exit","exitCode":N} or {"type":"problem","problem":{…}}. ' +
    'A process whose client leaves is hung up on.',
  request: { params: z.object({ id: MachineId }), query: ShellQuery },
  responses: { 101: { description: 'Switching to WebSocket' }, ...problems },
})

export function shellRoutes(services: ApiServices, options: ApiOptions) {
  const router = newRouter()
  const { machines } = services

  /** What is asked for; a refusal comes before the upgrade. */
  function parse(c: Context<AppEnv>) {
    const userId = c.get('user').id
    const id = parseId(c.req.param('id'))
    const request = parseQuery({ ...c.req.query(), arg: c.req.queries('arg') })
    machines.get(userId, id)
    return { userId, id, request }
  }

  router.openAPIRegistry.registerPath(shell)
  router.get(
    '/vms/:id/shell',
    upgradeWebSocket(async (c) => {
      const { userId, id, request } = parse(c)
      return {
        onOpen(_event, { raw }) {
          if (!(raw instanceof WebSocket)) throw new TypeError('not a socket of ours')
          void serveShell(raw, (signal) => machines.shell(userId, id, request, signal), {
            heartbeatMs: options.heartbeatMs,
            ending: services.shutdown.ending,
            onError(thrown) {
              const error = asVivariumError(thrown)
              if (error.blame !== 'user') services.onError(error, { method: 'GET', path: c.req.path })
              return error
            },
          })
        },
      }
    }),
    (c) => {
      // An upgrade is refused without a word: a client that asks again without one is told why.
      parse(c)
      throw new VivariumError(
        'invalid_request',
        'This is a WebSocket; use POST /vms/{id}/exec to run a command to its end.',
      )
    },
  )
  return router
}

function parseId(id: string | undefined): string {
  const parsed = MachineId.safeParse(id)
  if (!parsed.success) throw new VivariumError('not_found', 'There is no such id.')
  return parsed.data
}

function parseQuery(query: unknown): ShellRequest {
  const parsed = ShellQuery.safeParse(query)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    const field = issue?.path.join('.') ?? ''
    throw new VivariumError('invalid_request', `"${field}" is not valid: ${issue?.message ?? ''}.`, { field })
  }
  const { rows, cols, term, arg } = parsed.data
  return {
    argv: arg.length === 0 ? undefined : arg,
    terminal: rows === undefined || cols === undefined ? undefined : { rows, cols, term },
  }
}
