import { randomUUID } from 'node:crypto'
import { createMcpHandler, isJsonContentType, readRequestBody } from '@modelcontextprotocol/server'
import { z } from 'zod'
import type { McpCaller, McpEndpoint } from '../api/types.ts'
import { createClient } from '../client/client.ts'
import { toProblem, VivariumError } from '../contracts/errors.ts'
import { Cancellations } from './cancellations.ts'
import { Grace } from './grace.ts'
import { createMcpServer } from './server.ts'
import { MCP_DEFAULTS, type McpOptions } from './types.ts'

/** Tasks come with their files, as over REST. */
const MAX_BODY_BYTES = 64 * 1024 * 1024

const SESSION_HEADER = 'mcp-session-id'

const Cancelled = z.object({
  method: z.literal('notifications/cancelled'),
  params: z.object({ requestId: z.union([z.string(), z.number()]) }),
})
const Initialize = z.object({ method: z.literal('initialize') })

/**
 * MCP over Streamable HTTP, both protocol eras, without state between requests. Clients of the earlier era get a session id
 * all the same: their cancellation comes as a request of its own, and the id says whose call it means. In the era of
 * 2026-07-28 a client cancels by closing the response, which looks like a broken connection: there the grace period applies.
 * Once `ending` aborts, calls that wait for a task answer with how it stands.
 */
export function createMcpEndpoint(ending: AbortSignal, options: McpOptions = MCP_DEFAULTS): McpEndpoint {
  const grace = new Grace(options.graceMs)
  const cancellations = new Cancellations()

  return async (request, caller) => {
    if (request.method !== 'POST') return handlerFor(caller, undefined).fetch(request)
    if (!isJsonContentType(request.headers.get('content-type'))) {
      return refuse(new VivariumError('unsupported_media_type', 'Send JSON, with "Content-Type: application/json".'))
    }
    const body = await readRequestBody(request, MAX_BODY_BYTES)
    if (body.tooLarge) return refuse(new VivariumError('too_large', 'The message is larger than 64 MiB.'))
    const message = parseJson(body.text)
    const session = sessionOf(caller, request)
    const cancelled = Cancelled.safeParse(message)
    if (cancelled.success && session !== undefined) cancellations.cancel(session, cancelled.data.params.requestId)
    const { method, url, headers, signal } = request
    const copy = new Request(url, { method, headers, signal, body: body.text })
    const response = await handlerFor(caller, session).fetch(copy, message === undefined ? {} : { parsedBody: message })
    if (Initialize.safeParse(message).success) response.headers.set(SESSION_HEADER, randomUUID())
    return response
  }

  function handlerFor(caller: McpCaller, session: string | undefined) {
    const client = createClient({ url: caller.url, apiKey: caller.apiKey, fetch: caller.fetch })
    const factory = () =>
      createMcpServer({
        client,
        grace,
        progressMs: options.progressMs,
        ending,
        packWorkspace: undefined,
        listenForCancel: (id) => (session === undefined ? undefined : cancellations.listen(session, id)),
      })
    // Without 'sse' no header is sent before the first message, and Claude Code gives up after 60 s without a byte.
    return createMcpHandler(factory, { responseMode: 'sse', maxRequestBodySize: MAX_BODY_BYTES })
  }
}

/** Sessions are told apart within one user only: an id of somebody else's names nothing. */
function sessionOf(caller: McpCaller, request: Request): string | undefined {
  const id = request.headers.get(SESSION_HEADER)
  return id === null ? undefined : `${caller.userId} ${id}`
}

function refuse(error: VivariumError): Response {
  const problem = toProblem(error)
  return Response.json(problem, { status: problem.status, headers: { 'content-type': 'application/problem+json' } })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // the SDK answers it with a JSON-RPC parse error
  }
}
