import { constants } from 'node:os'
import { createRoute, z } from '@hono/zod-openapi'
import { MachineId } from '../../contracts/ids.ts'
import type { ExecRequest } from '../../contracts/machine.ts'
import type { ExecEvent } from '../../contracts/server.ts'
import type { ExecOutput } from '../../link/types.ts'
import { jsonBody } from '../edge/body.ts'
import { asVivariumError } from '../problem.ts'
import { newRouter, problems, schemas, takes } from '../router.ts'
import { type SseEvent, sseResponse, untilEnding, wantsSse } from '../sse.ts'
import type { ApiOptions, ApiServices } from '../types.ts'

/** Room for 16 MiB of stdin whose characters JSON escapes. */
const MAX_EXEC_BYTES = 32 * 1024 * 1024

const exec = createRoute({
  method: 'post',
  path: '/vms/{id}/exec',
  summary: 'Run a command in a machine: to its end, or with Accept: text/event-stream live',
  middleware: jsonBody(MAX_EXEC_BYTES),
  request: { params: z.object({ id: MachineId }), body: takes(schemas.execRequest) },
  responses: {
    200: {
      description: 'How it ended; or its output as it comes, the last message being "exit"',
      content: {
        'application/json': { schema: schemas.execResponse },
        'text/event-stream': { schema: schemas.execEvent },
      },
    },
    ...problems,
  },
})

export function execRoutes(services: ApiServices, options: ApiOptions) {
  const router = newRouter()
  const { machines } = services
  const { ending } = services.shutdown

  router.openapi(exec, async (c) => {
    const userId = c.get('user').id
    const { id } = c.req.valid('param')
    const request = c.req.valid('json')
    if (!wantsSse(c.req.header('accept'))) {
      return c.json(await machines.exec(userId, id, request, AbortSignal.any([c.req.raw.signal, ending])), 200)
    }
    machines.get(userId, id)
    const reader = new AbortController()
    const signal = AbortSignal.any([reader.signal, c.req.raw.signal, ending])
    const output = untilEnding(machines.execStream(userId, id, request, signal), ending)
    return sseResponse(messages(output, request), {
      heartbeatMs: options.heartbeatMs,
      reader,
      onError(thrown) {
        const error = asVivariumError(thrown)
        if (error.blame !== 'user') services.onError(error, { method: 'POST', path: c.req.path })
        return error
      },
    })
  })
  return router
}

async function* messages(output: AsyncIterable<ExecOutput>, request: ExecRequest): AsyncGenerator<SseEvent> {
  const startedAt = performance.now()
  for await (const piece of output) {
    yield { data: toEvent(piece, performance.now() - startedAt >= request.timeoutSeconds * 1000) }
  }
}

function toEvent(piece: ExecOutput, late: boolean): ExecEvent {
  if (piece.kind !== 'exit') return { kind: piece.kind, dataBase64: piece.data.toString('base64') }
  const { code, signal } = piece.exit
  return { kind: 'exit', exitCode: code ?? 128 + signalNumber(signal), signal, timedOut: late && signal !== null }
}

function signalNumber(name: string | null): number {
  const numbers: Record<string, number> = constants.signals
  return numbers[name ?? ''] ?? 0
}
