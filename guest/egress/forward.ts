import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2'
import { pipeline } from 'node:stream'
import { messageOf } from '../log.ts'
import { endToEnd } from './headers.ts'
import type { EgressLink } from './session.ts'

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
 */
export async function forward(link: EgressLink, request: IncomingMessage, response: ServerResponse, target: Target) {
  const session = await link.session()
  if (response.destroyed) return
  if (session === undefined) return refuse(response, 504, 'The way out of this machine is not up.')
  const withBody = hasBody(request)
  let stream: ClientHttp2Stream
  try {
    stream = link.open(
      session,
      {
        ...endToEnd(request.headers),
        ':method': request.method ?? 'GET',
        ':scheme': target.scheme,
        ':authority': target.authority,
        ':path': target.path,
      },
      { endStream: !withBody },
    )
  } catch (error) {
    return refuse(response, 502, `This request cannot be sent on: ${messageOf(error)}.`)
  }
  stream.once('response', (headers) => answer(stream, headers, response))
  stream.once('error', (error) => refuse(response, 502, `The way out of this machine broke: ${error.message}.`))
  stream.once('close', () => {
    if (!response.headersSent) refuse(response, 502, 'The way out of this machine gave no answer.')
  })
  response.once('close', () => stream.close(8 /* CANCEL: no effect on a stream that has ended */))
  // Failures of either side show up in the listeners above.
  if (withBody) pipeline(request, stream, () => undefined)
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
