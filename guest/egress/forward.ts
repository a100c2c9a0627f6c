import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2'
import { ANTHROPIC_AUTHORITY } from '../../src/link/constants.ts'
import { messageOf } from '../log.ts'
import { Body } from './body.ts'
import { endToEnd } from './headers.ts'
import { MODEL_WAIT_MS, WAIT_MS, type EgressLink } from './session.ts'

/** How often a request is sent that the way out breaks under each time. */
const MAX_ATTEMPTS = 5

/** Methods that ask for nothing but an answer (RFC 9110, 9.2.1): to send one twice does no harm. */
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])

export interface Target {
  scheme: 'http' | 'https'
  authority: string
  path: string
}

/** An error of our own in place of an answer. */
export function refuse(response: ServerResponse, status: number, sentence: string): void {
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
  response.end(`${sentence}\n`)
}

function hasBody(request: IncomingMessage): boolean {
  return request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0
}

/**
 * Sends one HTTP/1.1 request of a guest program on to the gateway, and its answer back, both as they come. Every chunk is
 * passed on at once, so that server-sent events arrive when they happen.
 *
 * Where the way out breaks before an answer, the request is sent again on the next one, if nobody can have acted on it: because
 * it asks for nothing but an answer, or because the model's API has not had all of it. One that may be paid for already is
 * answered with an error, after which Claude Code asks again by itself.
 */
export async function forward(link: EgressLink, request: IncomingMessage, response: ServerResponse, target: Target) {
  await pass(link, request, response, target)
  // What nobody wanted of the body: else no other request could come on this connection.
  request.resume()
}

async function pass(link: EgressLink, request: IncomingMessage, response: ServerResponse, target: Target) {
  const isModel = target.authority === ANTHROPIC_AUTHORITY
  const body = hasBody(request) ? new Body(request) : undefined
  const canBeRepeated = () => (body === undefined ? SAFE.has(request.method ?? '') : isModel && body.canBeRepeated)
  for (let attempt = 1; ; attempt++) {
    const session = await link.session(isModel ? MODEL_WAIT_MS : WAIT_MS)
    if (response.destroyed) return
    if (session === undefined) return refuse(response, 504, 'The way out of this machine is not up.')
    const failure = await attemptOn(session, link, { request, body, response, target })
    if (failure === undefined) return
    const isBroken = session.closed || session.destroyed
    if (!isBroken || !canBeRepeated() || attempt === MAX_ATTEMPTS) return refuse(response, 502, failure)
  }
}

/** Resolves when the answer has been passed on, as far as there is one, or with the sentence why there is none. */
function attemptOn(
  session: ClientHttp2Session,
  link: EgressLink,
  parts: { request: IncomingMessage; body: Body | undefined; response: ServerResponse; target: Target },
): Promise<string | undefined> {
  const { request, body, response, target } = parts
  const headers = {
    ...endToEnd(request.headers),
    ':method': request.method ?? 'GET',
    ':scheme': target.scheme,
    ':authority': target.authority,
    ':path': target.path,
  }
  return new Promise((resolve) => {
    let stream: ClientHttp2Stream
    try {
      stream = link.open(session, headers, { endStream: body === undefined })
    } catch (error) {
      return resolve(`This request cannot be sent on: ${messageOf(error)}.`)
    }
    let failure: string | undefined = 'The way out of this machine gave no answer.'
    const cancel = () => stream.close(8 /* CANCEL: no effect on a stream that has ended */)
    stream.once('response', (head) => {
      failure = undefined
      answer(stream, head, response)
    })
    stream.on('error', (error) => (failure &&= `The way out of this machine broke: ${error.message}.`))
    stream.once('close', () => {
      response.off('close', cancel)
      resolve(failure)
    })
    response.once('close', cancel)
    body?.send(stream)
  })
}

function answer(stream: ClientHttp2Stream, headers: IncomingHttpHeaders, response: ServerResponse): void {
  response.writeHead(Number(headers[':status']), endToEnd(headers))
  response.flushHeaders()
  stream.on('data', (chunk: Buffer) => {
    if (!response.write(chunk)) stream.pause()
  })
  response.on('drain', () => stream.resume())
  stream.once('end', () => {
    // An answer cut short must not look complete.
    if (stream.rstCode === 0 && !stream.aborted) response.end()
    else response.destroy()
  })
  stream.once('close', () => {
    if (!response.writableEnded) response.destroy()
  })
}
