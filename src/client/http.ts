import { Readable } from 'node:stream'
import type { z } from 'zod'
import { Problem, VivariumError } from '../contracts/errors.ts'
import type { CallOptions, ClientOptions, Download } from './types.ts'

interface CallInit extends CallOptions {
  query?: Record<string, string | number | undefined>
  headers?: Record<string, string>
  /** Sent as JSON. */
  json?: unknown
  /** Sent as it is; `headers` says what it is. */
  body?: Readable | Uint8Array
}

/** Calls to one server: builds requests, turns refusals into VivariumErrors. */
export interface Http {
  /** The server's address, without a slash at its end. */
  readonly base: string
  send(method: string, path: string, init?: CallInit): Promise<Response>
  json<Schema extends z.ZodType>(
    schema: Schema,
    method: string,
    path: string,
    init?: CallInit,
  ): Promise<z.output<Schema>>
  download(path: string, init?: CallInit): Promise<Download>
}

export function createHttp(options: ClientOptions): Http {
  const base = options.url.replace(/\/+$/, '')
  const fetch = options.fetch ?? globalThis.fetch

  async function send(method: string, path: string, init: CallInit = {}): Promise<Response> {
    const request = buildRequest(method, `${base}/api/v1${path}${queryString(init.query)}`, init)
    if (options.apiKey !== undefined) request.headers.set('authorization', `Bearer ${options.apiKey}`)
    const response = await reach(base, () => fetch(request), init.signal)
    if (response.ok) return response
    throw await refusal(response)
  }

  return {
    base,
    send,
    async json(schema, method, path, init) {
      const response = await send(method, path, init)
      const body: unknown = await reach(base, () => response.json(), init?.signal)
      const parsed = schema.safeParse(body)
      if (parsed.success) return parsed.data
      throw new VivariumError('internal', `${base} gave an answer that this version does not understand (${path}).`, {
        cause: parsed.error,
      })
    },
    async download(path, init) {
      const response = await send('GET', path, init)
      const length = response.headers.get('content-length')
      return {
        mimeType: response.headers.get('content-type') ?? 'application/octet-stream',
        size: length === null ? undefined : Number(length),
        body: response.body === null ? Readable.from([]) : Readable.fromWeb(response.body),
      }
    },
  }
}

/** One path segment. `.` and `..` would be folded away by every URL parser, and so ask for something else. */
export function segment(text: string): string {
  if (text === '' || text === '.' || text === '..') throw new VivariumError('not_found', `There is no "${text}".`)
  return encodeURIComponent(text)
}

/** Waits for an answer that says nothing, and frees its connection. */
export async function nothing(response: Promise<Response>): Promise<void> {
  await (await response).body?.cancel()
}

function buildRequest(method: string, url: string, init: CallInit): Request {
  const headers = new Headers(init.headers)
  const signal = init.signal === undefined ? {} : { signal: init.signal }
  if (init.json !== undefined) {
    headers.set('content-type', 'application/json')
    return new Request(url, { method, headers, body: JSON.stringify(init.json), ...signal })
  }
  if (init.body instanceof Readable) {
    return new Request(url, { method, headers, body: Readable.toWeb(init.body), duplex: 'half', ...signal })
  }
  return new Request(url, { method, headers, ...(init.body === undefined ? {} : { body: init.body }), ...signal })
}

function queryString(query: CallInit['query'] = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined)
  return given.length === 0 ? '' : `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`
}

/** Runs a step that needs the connection; what breaks it is told in words, what the caller gave up is left as it is. */
async function reach<Value>(base: string, step: () => Value | Promise<Value>, signal?: AbortSignal): Promise<Value> {
  try {
    return await step()
  } catch (error) {
    signal?.throwIfAborted()
    throw unreachable(base, error)
  }
}

/** The error of a connection that could not be made or broke. */
export function unreachable(base: string, error: unknown): VivariumError {
  if (error instanceof VivariumError) return error
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined
  const why = code === 'ECONNREFUSED' ? 'connection refused' : (code ?? String(cause))
  return new VivariumError(
    'setup_required',
    `No Vivarium server can be reached at ${base} (${why}). Start one with "vivarium serve", or check VIVARIUM_URL.`,
    { cause: error },
  )
}

async function refusal(response: Response): Promise<VivariumError> {
  const text = await response.text().catch(() => '') // the status alone is worth telling
  const retryAfter = Number(response.headers.get('retry-after') ?? NaN)
  const retryAfterSeconds = Number.isFinite(retryAfter) ? retryAfter : undefined
  const otherwise = `The server answered ${response.status}, and not as Vivarium does: is it one?`
  return problemError(text, otherwise, retryAfterSeconds)
}

/** The error that a problem document tells of. */
export function problemError(
  text: string,
  otherwise = 'The server reported an error in an unknown form.',
  retryAfterSeconds?: number,
): VivariumError {
  const problem = Problem.safeParse(parseJson(text))
  if (!problem.success) return new VivariumError('internal', otherwise)
  const { code, detail, field } = problem.data
  return new VivariumError(code, detail, { field, retryAfterSeconds })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // not a problem document: the caller says so
  }
}
