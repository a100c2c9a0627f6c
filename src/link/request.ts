import type { ClientHttp2Stream, IncomingHttpHeaders, IncomingHttpStatusHeader } from 'node:http2'
import { Readable } from 'node:stream'
import type { z } from 'zod'
import { AgentError } from './protocol.ts'
import { abortError, misbehaved, refusal, SessionBroken } from './errors.ts'
import type { Session } from './session.ts'

export interface LinkRequest {
  method: 'GET' | 'PUT' | 'POST'
  /** With its query. */
  path: string
  /** Made when it is sent, where it is a function. */
  body?: Buffer | Readable | (() => Buffer)
  /** Until the head of the answer. */
  deadlineMs: number
  signal?: AbortSignal | undefined
}

/** The head of an answer; its body is `stream`, to be read or destroyed by the caller. */
export interface Answer {
  headers: IncomingHttpHeaders & IncomingHttpStatusHeader
  stream: ClientHttp2Stream
  session: Session
}

const MAX_ERROR_BYTES = 16 * 1024
const PIECE_BYTES = 256 * 1024
/** A body up to here goes out with its head, in one write: the guest is woken once. */
const SMALL_BYTES = 16 * 1024

/** Why a stream ended before its time: with its session, or the agent broke it off. */
export function brokenOff(session: Session): Error {
  if (session.over) return new SessionBroken('the session ended')
  return misbehaved('The guest broke off an answer.')
}

/** Whether a stream that has ended did so with the body's end: one that is reset, or loses its session, ends as well. */
export function endedWhole({ stream, session }: Answer): boolean {
  return stream.rstCode === 0 && !session.over
}

/**
 * Sends one request on a session; resolves with the head of a 2xx answer. Rejects with SessionBroken, `guest_misbehaved`
 * (late, broken off, not an answer), or the agent's refusal.
 */
export async function send(session: Session, request: LinkRequest): Promise<Answer> {
  const { signal } = request
  if (signal?.aborted === true) throw abortError(signal)
  const stream = open(session, request)
  const headers = await new Promise<Answer['headers']>((resolve, reject) => {
    const timer = setTimeout(() => fail(misbehaved('The guest did not answer a request in time.')), request.deadlineMs)
    const onAbort = () => fail(signal === undefined ? brokenOff(session) : abortError(signal))
    const onClose = () => fail(brokenOff(session))
    const settle = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      stream.off('close', onClose)
    }
    const fail = (error: Error) => {
      settle()
      reject(error)
      stream.close(8 /* CANCEL */)
      stream.destroy()
    }
    signal?.addEventListener('abort', onAbort)
    // Says nothing that 'close', which follows, does not. Stays, for whoever reads the body.
    stream.on('error', () => undefined)
    stream.once('close', onClose)
    stream.once('response', (headers) => {
      settle()
      resolve(headers)
    })
    sendBody(stream, request.body, fail)
  })
  const answer = { headers, stream, session }
  const status = headers[':status'] ?? 0
  if (status >= 200 && status < 300) return answer
  const error = await readError(answer, request)
  stream.destroy()
  throw error
}

function open(session: Session, { method, path, body }: LinkRequest): ClientHttp2Stream {
  try {
    return session.request({ ':method': method, ':path': path }, { endStream: body === undefined })
  } catch {
    // What we send is well formed: only a session that is going refuses it.
    throw new SessionBroken('the session ended')
  }
}

function sendBody(stream: ClientHttp2Stream, body: LinkRequest['body'], fail: (error: Error) => void): void {
  if (body === undefined) return
  const bytes = typeof body === 'function' ? body() : body
  if (Buffer.isBuffer(bytes) && bytes.length <= SMALL_BYTES) {
    stream.end(bytes)
    return
  }
  const source = Buffer.isBuffer(bytes) ? Readable.from(pieces(bytes), { objectMode: false }) : bytes
  source.once('error', fail)
  source.pipe(stream)
  // Answered, refused or broken: what is left of the source is nobody's.
  stream.once('close', () => source.destroy())
}

/** A large buffer handed over whole would count as the session's memory, and answers to others be refused for want of it. */
function* pieces(body: Buffer): Generator<Buffer> {
  for (let at = 0; at < body.length; at += PIECE_BYTES) yield body.subarray(at, at + PIECE_BYTES)
}

/** The agent's error document as an error. */
async function readError(answer: Answer, request: LinkRequest): Promise<Error> {
  try {
    const { error } = await readJson(answer, AgentError, MAX_ERROR_BYTES, request)
    return refusal(answer.headers[':status'] ?? 500, error)
  } catch (error) {
    return error instanceof Error ? error : misbehaved('The guest refused without saying why.')
  }
}

/** The whole body, at most `maxBytes`, within the request's deadline. */
export async function readAll(
  answer: Answer,
  maxBytes: number,
  { deadlineMs, signal }: Pick<LinkRequest, 'deadlineMs' | 'signal'>,
): Promise<Buffer> {
  const { stream, session } = answer
  const chunks: Buffer[] = []
  let size = 0
  let failure: Error | undefined
  const fail = (error: Error) => {
    failure ??= error
    stream.destroy()
  }
  const timer = setTimeout(() => fail(misbehaved('The guest did not finish an answer in time.')), deadlineMs)
  const onAbort = () => fail(signal === undefined ? brokenOff(session) : abortError(signal))
  signal?.addEventListener('abort', onAbort)
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > maxBytes) throw (failure = misbehaved('The guest sent more than an answer may hold.'))
      chunks.push(chunk)
    }
  } catch {
    throw failure ?? brokenOff(session)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
  if (!endedWhole(answer)) throw failure ?? brokenOff(session)
  return Buffer.concat(chunks)
}

/** The body as JSON of a known shape. */
export async function readJson<T extends z.ZodType>(
  answer: Answer,
  schema: T,
  maxBytes: number,
  limits: Pick<LinkRequest, 'deadlineMs' | 'signal'>,
): Promise<z.infer<T>> {
  const text = (await readAll(answer, maxBytes, limits)).toString('utf8')
  return parseJson(text, schema)
}

/** Text of a guest as JSON of a known shape; rejects with `guest_misbehaved`. */
export function parseJson<T extends z.ZodType>(text: string, schema: T): z.infer<T> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw misbehaved('The guest sent something that is not JSON.', error)
  }
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw misbehaved('The guest sent JSON of the wrong shape.', parsed.error)
  return parsed.data
}
