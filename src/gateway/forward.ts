import { request as httpRequest, type OutgoingHttpHeaders } from 'node:http'
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { PassThrough } from 'node:stream'
import { answerText } from './answer.ts'
import { parseAuthority } from './authority.ts'
import { dial } from './dial.ts'
import { endToEnd, framedBody } from './headers.ts'
import { exchange, passAnswer, UpstreamError } from './relay.ts'
import type { Way } from './way.ts'

/** A plain HTTP request to an allowed host, as a proxy forwards it: apt and old mirrors speak no TLS. */
export async function forward(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  way: Way,
  signal: AbortSignal,
): Promise<void> {
  const method = headers[':method'] ?? ''
  const authority = headers[':authority'] ?? ''
  const path = headers[':path'] ?? ''
  const destination = parseAuthority(authority, 80)
  const refuse = (rule: string, sentence: string) => {
    way.refused(authority, rule)
    answerText(stream, 400, sentence)
  }
  if (destination === undefined)
    return refuse('unreadable destination', 'The request names no host, or an address not in its usual notation.')
  if (headers[':scheme'] !== 'http') return refuse('not plain http', 'Use CONNECT for anything but http.')
  // Node writes any method in capitals, so that `connect` would open a tunnel; a whole URL as path would ask for another host.
  if (!/^[A-Z][A-Z-]*$/.test(method) || method === 'CONNECT' || !(path.startsWith('/') || path === '*'))
    return refuse('unreadable request', 'Only a method in capitals and a path can be forwarded.')
  const dialled = await dial(destination, way, signal)
  if (dialled.kind !== 'connected') return answerText(stream, ...way.refusal(destination, dialled))

  const { socket, rule } = dialled
  try {
    const outgoing: OutgoingHttpHeaders = {
      ...endToEnd(headers),
      ...framedBody(headers, stream.endAfterHeaders),
      host: authority,
      connection: 'close',
    }
    const request = httpRequest({ createConnection: () => socket, method, path, headers: outgoing })
    const response = await exchange(stream, request, new PassThrough())
    await passAnswer(stream, response, { method })
  } catch (error) {
    if (error instanceof UpstreamError) answerText(stream, 502, `${authority} did not answer: ${error.message}.`)
    else if (!stream.headersSent) answerText(stream, 400, 'The request could not be forwarded.')
  } finally {
    socket.destroy()
    way.decided({ ...destination, allowed: true, rule, bytesOut: socket.bytesWritten, bytesIn: socket.bytesRead })
  }
}
