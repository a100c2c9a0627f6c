import type { ServerHttp2Stream } from 'node:http2'
import type { AgentError } from '../src/link/protocol.ts'
import { log, messageOf } from './log.ts'

/** One request of the host on `control`. */
export interface Request {
  stream: ServerHttp2Stream
  method: string
  /** Path segments, decoded: `/execs/x1/output` is `['execs', 'x1', 'output']`. */
  segments: string[]
  query: URLSearchParams
  /** Aborted when the stream closes, for whatever reason. */
  closed: AbortSignal
}

/** A request the agent refuses, with the status and sentence of the answer. */
export class Refusal extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** Requests with a JSON body are small, but for lists of paths. */
const MAX_JSON_BYTES = 64 * 1024 * 1024

/** The request's body as JSON. The host is trusted: its shape is not checked. */
export async function readJson<T>(stream: ServerHttp2Stream): Promise<T> {
  return JSON.parse((await readBody(stream)).toString('utf8')) as T
}

/** By events: an iterator takes several turns of the event loop for what is there at once. */
function readBody(stream: ServerHttp2Stream): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  return new Promise((resolve, reject) => {
    stream.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= MAX_JSON_BYTES) chunks.push(chunk)
      else reject(new Refusal(413, 'the request is too large'))
    })
    stream.once('end', () => resolve(Buffer.concat(chunks)))
    // Says nothing new after an end.
    stream.once('close', () => reject(new Error('the request was broken off')))
  })
}

export function answerJson(stream: ServerHttp2Stream, body: unknown, status = 200): void {
  if (stream.closed || stream.destroyed) return
  stream.respond({ ':status': status, 'content-type': 'application/json' })
  stream.end(JSON.stringify(body))
}

/**
 * Ends a request that failed: with an error document while nothing was answered yet, else by resetting the stream, so that
 * a body cut short never looks complete.
 */
export function answerError(stream: ServerHttp2Stream, error: unknown): void {
  if (stream.closed || stream.destroyed) return
  const status = error instanceof Refusal ? error.status : statusOf(error)
  if (status >= 500) log(`request failed: ${messageOf(error)}`)
  // `close(code)` would end the body regularly first.
  if (stream.headersSent) stream.destroy(new Error(messageOf(error)))
  else answerJson(stream, { error: messageOf(error).slice(0, 4096) } satisfies AgentError, status)
}

function statusOf(error: unknown): number {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ENOENT' || code === 'ENOTDIR') return 404
  return typeof code === 'string' && /^E[A-Z]+$/.test(code) ? 422 : 500
}

/** A whole number from the query, e.g. an offset. */
export function numberParameter(query: URLSearchParams, name: string, fallback?: number): number {
  const text = query.get(name)
  if (text === null && fallback !== undefined) return fallback
  const value = Number(text)
  if (text === null || !Number.isSafeInteger(value) || value < 0)
    throw new Refusal(400, `${name} must be a whole number`)
  return value
}

/** An absolute path from the query. */
export function pathParameter(query: URLSearchParams): string {
  const path = query.get('path')
  if (path === null || !path.startsWith('/')) throw new Refusal(400, 'path must be absolute')
  return path
}
