/** For tests: the guest's end of an egress connection, over a real unix socket. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect as connectHttp2, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { ANTHROPIC_AUTHORITY } from '../link/protocol.ts'
import { preambleLine, PreambleScanner } from '../link/scanner.ts'
import type { EgressSession } from './types.ts'

/** A guest that is connected to a session of the gateway. */
export interface TestGuest extends Disposable {
  http2: ClientHttp2Session
  socket: Socket
  /** Sends a request with its whole body. */
  send(headers: OutgoingHttpHeaders, body?: string | Buffer): ClientHttp2Stream
  /** The same, to its end. */
  ask(headers: OutgoingHttpHeaders, body?: string | Buffer): Promise<TestAnswer>
  /** A request to the model's API. */
  askModel(body: object, headers?: OutgoingHttpHeaders): Promise<TestAnswer>
}

export interface TestAnswer {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

/** The answer on a stream; rejects when it is reset before its end. */
export async function answerOn(stream: ClientHttp2Stream): Promise<TestAnswer> {
  const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders & { ':status'?: number }]
  return { status: headers[':status'] ?? 0, headers, body: await text(stream) }
}

/** Both ends of a connection that the session has been given, before a word is said. */
export async function connectSocket(session: EgressSession): Promise<{ guest: Socket; host: Socket }> {
  const folder = mkdtempSync(join(tmpdir(), 'viv-egress-'))
  const server = createServer().listen(join(folder, 's'))
  await once(server, 'listening')
  const guest = connect(join(folder, 's')).on('error', () => undefined)
  const [host] = (await once(server, 'connection')) as [Socket]
  server.close()
  rmSync(folder, { recursive: true })
  session.accept(host)
  return { guest, host }
}

/** A connection on which HTTP/2 may begin, for what no well-behaved client would send. */
export async function connectRaw(session: EgressSession): Promise<Socket> {
  const { guest } = await connectSocket(session)
  await answerPreamble(guest)
  return guest
}

/** Opens a connection to the session and starts HTTP/2 on it, as the agent in the guest does. */
export async function connectGuest(session: EgressSession): Promise<TestGuest> {
  const socket = await connectRaw(session)
  const http2 = connectHttp2('http://egress', { createConnection: () => socket })
  http2.on('error', () => undefined)

  const send: TestGuest['send'] = (headers, body) => {
    const stream = http2.request(headers, { endStream: body === undefined && headers[':method'] !== 'CONNECT' })
    stream.on('error', () => undefined)
    if (body !== undefined) stream.end(body)
    return stream
  }
  const ask: TestGuest['ask'] = (headers, body) => answerOn(send(headers, body))
  return {
    http2,
    socket,
    send,
    ask,
    askModel: (body, headers) => ask({ ...MODEL_REQUEST, ...headers }, JSON.stringify(body)),
    [Symbol.dispose]() {
      http2.destroy()
      socket.destroy()
    },
  }
}

export const MODEL_REQUEST = {
  ':method': 'POST',
  ':path': '/v1/messages?beta=true',
  ':scheme': 'http',
  ':authority': ANTHROPIC_AUTHORITY,
  'content-type': 'application/json',
}

/** The guest's part of what is said before HTTP/2 begins. */
export function answerPreamble(socket: Socket): Promise<void> {
  const scanner = new PreambleScanner()
  return new Promise((resolve) => {
    const onData = (chunk: Buffer) => {
      scanner.push(chunk)
      for (let line = scanner.next(); line !== undefined; line = scanner.next()) {
        if (line.verb === 'hello') socket.write(preambleLine('echo', line.nonce))
        if (line.verb !== 'go') continue
        socket.off('data', onData).pause()
        if (scanner.rest().length > 0) socket.unshift(scanner.rest())
        socket.write(preambleLine('ready', line.nonce))
        return resolve()
      }
    }
    socket.on('data', onData)
  })
}
