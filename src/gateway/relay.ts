import type { ClientRequest, IncomingMessage } from 'node:http'
import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { callbackify } from 'node:util'
import { endStream } from './answer.ts'
import { endToEnd } from './headers.ts'
import { IDLE_TIMEOUT_MS } from './limits.ts'

/** Thrown when no answer came from the upstream, for a reason that is the upstream's. */
export class UpstreamError extends Error {
  override readonly name = 'UpstreamError'
}

/** Thrown when a guest's body is larger than it may be. */
export class BodyTooLargeError extends Error {
  override readonly name = 'BodyTooLargeError'
}

/** A transform that shows every chunk to `onChunk`, which may throw. */
export function tap(onChunk: (chunk: Buffer) => void): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        onChunk(chunk)
        done(null, chunk)
      } catch (error) {
        done(error instanceof Error ? error : new Error(String(error)))
      }
    },
  })
}

/** Takes chunks, and throws BodyTooLargeError at the one with which there are more than `maxBytes`. */
export function atMost(maxBytes: number): (chunk: Buffer) => void {
  let left = maxBytes
  return (chunk) => {
    left -= chunk.length
    if (left < 0) throw new BodyTooLargeError(`The request is larger than ${maxBytes} bytes.`)
  }
}

/**
 * The same as `tap`, but the last chunk passes only when `release` has resolved, which is called when the end of all has come: until
 * then whoever is sent the bytes has no whole message.
 */
export function holdEnd(onChunk: (chunk: Buffer) => void, release: () => Promise<void>): Transform {
  let last: Buffer | undefined
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const before = last
      last = chunk
      try {
        onChunk(chunk)
        done(null, before)
      } catch (error) {
        done(error instanceof Error ? error : new Error(String(error)))
      }
    },
    flush(done) {
      callbackify(release)((error) => done(error, last))
    },
  })
}

/** Says whether a request goes on when its guest has left. */
export type Outlives = (request: ClientRequest) => boolean

/**
 * Sends the guest's body to the upstream and resolves with the upstream's answer. The body may still be on its way then:
 * an upstream may answer early and read no further. Rejects with what ended it: UpstreamError, BodyTooLargeError, or the
 * guest's own leaving. The guest's stream stays open for an answer, which is why this is no `pipeline`.
 *
 * Without a `filter` no byte of a body is sent. Whoever gives one must see to it that the request says where its body ends
 * (`framedBody`): Node writes the body of a GET as it comes, and the upstream would read it as a request of its own.
 */
export function exchange(
  stream: ServerHttp2Stream,
  request: ClientRequest,
  filter: Transform | undefined,
  outlives: Outlives = () => false,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const giveUp = (error: Error) => {
      reject(error)
      request.destroy()
    }
    request.setTimeout(IDLE_TIMEOUT_MS, () => giveUp(new UpstreamError('no answer')))
    const onClose = () => reject(new UpstreamError('closed the connection'))
    request.once('close', onClose)
    request.once('response', (response) => {
      request.off('close', onClose)
      resolve(response)
    })
    // Stays for the request's whole life: after the answer has begun, its own stream reports what goes wrong.
    request.on('error', (error: NodeJS.ErrnoException) => reject(new UpstreamError(error.code ?? error.message)))
    filter?.once('error', giveUp)
    stream.once('close', () => {
      if (!outlives(request)) giveUp(new Error('The guest left.'))
    })
    if (stream.destroyed) return giveUp(new Error('The guest left.'))
    if (filter === undefined) {
      stream.resume()
      request.end()
    } else {
      stream.pipe(filter).pipe(request)
    }
  })
}

/** Passes the head of the upstream's answer to the guest; returns whether a body follows. Throws when it can't be passed. */
export function passHead(
  stream: ServerHttp2Stream,
  response: IncomingMessage,
  options: { method: string; drop?: (name: string) => boolean },
): boolean {
  if (stream.destroyed || stream.closed) {
    response.destroy()
    throw new Error('The guest left.')
  }
  const headers = Object.entries(endToEnd(response.headers)).filter(([name]) => options.drop?.(name) !== true)
  const status = response.statusCode ?? 502
  const hasBody = options.method !== 'HEAD' && ![204, 205, 304].includes(status)
  const answer: OutgoingHttpHeaders = { ...Object.fromEntries(headers), ':status': status }
  try {
    stream.respond(answer, { endStream: !hasBody })
  } catch (error) {
    // Not everything that HTTP/1 lets through can be said in HTTP/2.
    response.destroy()
    throw error
  }
  return hasBody
}

/** Passes the upstream's answer to the guest, through `through` if given. Rejects when either side breaks off. */
export async function passAnswer(
  stream: ServerHttp2Stream,
  response: IncomingMessage,
  options: { method: string; drop?: (name: string) => boolean; through?: Transform },
): Promise<void> {
  const hasBody = passHead(stream, response, options)
  if (!hasBody) response.resume()
  else if (options.through === undefined) await pipeline(response, stream)
  else await pipeline(response, options.through, stream)
  endStream(stream)
}
