import type { ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { eventsOf, messageOf, type StreamEvent } from './answer.ts'
import type { MessagesRequest } from './request.ts'
import type { Fault, Turn } from './script.ts'

/** Answers one request with a turn, streamed or whole as the request asks, with the turn's fault if it has one. */
export async function respond(response: ServerResponse, turn: Turn, request: MessagesRequest, id: string) {
  await delay(turn.delayMs)
  const { fault } = turn
  if (fault?.kind === 'status') return respondWithError(response, fault, id)
  if (fault !== undefined && fault.kind !== 'malformed' && fault.afterEvents === 0) return interrupt(response, fault)
  response.setHeader('request-id', `req_${id}`)
  await (request.stream ? stream(response, turn, request, id) : whole(response, turn, request, id))
}

function respondWithError(response: ServerResponse, fault: Extract<Fault, { kind: 'status' }>, id: string) {
  const error = { type: 'error', error: { type: fault.type, message: fault.message }, request_id: `req_${id}` }
  response.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers }).end(JSON.stringify(error))
}

/** Leaves a client waiting, or alone. A hanging answer ends with the server. */
function interrupt(response: ServerResponse, fault: Fault): void {
  if (fault.kind === 'cut') response.destroy()
}

async function whole(response: ServerResponse, turn: Turn, { model }: MessagesRequest, id: string) {
  const body = JSON.stringify(messageOf(turn, id, model))
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
  if (turn.fault === undefined) return void response.end(body)
  if (turn.fault.kind === 'malformed') return void response.end(`${body.slice(0, -1)}!`)
  response.write(body.slice(0, body.length / 2), () => turn.fault && interrupt(response, turn.fault))
}

async function stream(response: ServerResponse, turn: Turn, { model }: MessagesRequest, id: string) {
  const { fault } = turn
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  let sent = 0
  for (const event of eventsOf(turn, id, model)) {
    if (fault !== undefined && fault.kind !== 'status' && sent === fault.afterEvents) {
      if (fault.kind !== 'malformed') return interrupt(response, fault)
      await write(response, 'event: content_block_delta\ndata: {"type": "content_block_delta", oops\n\n')
    }
    if (turn.pieceDelayMs > 0 && event.type === 'content_block_delta') await delay(turn.pieceDelayMs)
    await write(response, frame(event))
    sent += 1
  }
  response.end()
}

function frame(event: StreamEvent): string {
  return `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`
}

/** Writes and waits until it is on its way, so that a fault that follows cannot swallow it. Rejects when the client has left. */
function write(response: ServerResponse, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    response.write(text, (error) => (error == null ? resolve() : reject(error)))
  })
}
