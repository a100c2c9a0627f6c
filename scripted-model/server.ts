import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { json } from 'node:stream/consumers'
import { chooseTurn, type Choice } from './choose.ts'
import { MessagesRequest } from './request.ts'
import { respond } from './respond.ts'
import { Script, type ScriptInput, type Turn } from './script.ts'

/** A request the server got. `body` is the parsed JSON, or undefined where there was none. */
export interface RecordedRequest {
  method: string
  path: string
  headers: IncomingHttpHeaders
  body: unknown
  /** What a request for messages is answered with, and whether all of the answer has left. */
  answer?: { usage: Turn['usage']; isWhole: boolean }
}

export interface ScriptedModelOptions {
  script: ScriptInput
  /** Port on 127.0.0.1; a free one by default. */
  port?: number
  /** The one credential that is accepted, as `x-api-key` or as bearer token; any by default. */
  requireKey?: string
}

export interface ScriptedModel extends AsyncDisposable {
  url: string
  /** Everything asked for so far, oldest first. */
  requests: RecordedRequest[]
}

/** Starts a Messages API on loopback that answers by a script. Throws a ZodError when the script is not one. */
export async function startScriptedModel(options: ScriptedModelOptions): Promise<ScriptedModel> {
  const script = Script.parse(options.script)
  const requests: RecordedRequest[] = []
  const faultsMet = new Map<string, number>()
  let answers = 0

  const server = createServer((request, response) => {
    // A client that leaves in the middle is an ordinary case here: cut and cancelled runs are tested.
    handle(request, response).catch(() => response.destroy())
  })

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '/'
    const body = request.method === 'POST' ? await json(request).catch(() => undefined) : undefined
    const recorded: RecordedRequest = { method: request.method ?? '', path, headers: request.headers, body }
    requests.push(recorded)
    const route = `${request.method} ${path.split('?')[0]}`
    if (route === 'HEAD /api/hello') return void response.writeHead(200).end()
    if (!isAuthorized(request.headers, options.requireKey))
      return sendError(response, 401, 'authentication_error', 'invalid x-api-key')
    if (route === 'GET /v1/models') return sendJson(response, 200, { data: [], has_more: false })
    if (route === 'POST /v1/messages/count_tokens') return sendJson(response, 200, { input_tokens: 1000 })
    if (route !== 'POST /v1/messages') return sendError(response, 404, 'not_found_error', `no ${route} here`)
    const parsed = MessagesRequest.safeParse(body)
    if (!parsed.success) return sendError(response, 400, 'invalid_request_error', parsed.error.message)
    answers += 1
    const choice = withoutSpentFault(chooseTurn(script, parsed.data))
    const answer = { usage: choice.turn.usage, isWhole: false }
    recorded.answer = answer
    response.once('finish', () => (answer.isWhole = choice.turn.fault === undefined))
    await respond(response, choice.turn, parsed.data, `scripted${answers}`)
  }

  function withoutSpentFault(choice: Choice): Choice {
    const { fault, faultTimes, ...turn } = choice.turn
    if (fault === undefined || faultTimes === undefined) return choice
    const met = faultsMet.get(choice.key) ?? 0
    faultsMet.set(choice.key, met + 1)
    return met < faultTimes ? choice : { ...choice, turn }
  }

  server.listen(options.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The scripted model has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    async [Symbol.asyncDispose]() {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

function isAuthorized(headers: IncomingHttpHeaders, key: string | undefined): boolean {
  return key === undefined || headers['x-api-key'] === key || headers.authorization === `Bearer ${key}`
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function sendError(response: ServerResponse, status: number, type: string, message: string): void {
  sendJson(response, status, { type: 'error', error: { type, message } })
}
