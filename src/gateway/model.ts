import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { answerApiError } from './answer.ts'
import { signed, type Credential } from './credentials.ts'
import { endToEnd, withoutBody, withoutCredentials } from './headers.ts'
import type { Ledger } from './ledger.ts'
import { MAX_MODEL_BODY_BYTES, MAX_MODEL_REQUESTS } from './limits.ts'
import { Meter } from './meter.ts'
import { ErrorReader, type ModelError } from './model-error.ts'
import { BodyTooLargeError, cap, exchange, passAnswer, tap, UpstreamError } from './relay.ts'

/**
 * All of the API that Claude Code needs. What is left out would act on the account behind the credential, or spend
 * without being counted (batches).
 */
const ROUTES: { method: string; path: RegExp; metered: boolean; open?: boolean }[] = [
  { method: 'POST', path: /^\/v1\/messages(\?.*)?$/, metered: true },
  { method: 'POST', path: /^\/v1\/messages\/count_tokens(\?.*)?$/, metered: false },
  { method: 'GET', path: /^\/v1\/models(\/[\w.-]+)?(\?.*)?$/, metered: false },
  // The CLI's connection check; needs no credential.
  { method: 'HEAD', path: /^\/api\/hello$/, metered: false, open: true },
]

const agents = { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) }

/** The model's API as one machine may use it. */
export class ModelUpstream {
  readonly #url: URL
  readonly #credential: () => Credential | undefined
  readonly #ledger: Ledger
  readonly #onError: ((error: ModelError) => void) | undefined
  #open = 0

  constructor(options: {
    url: string
    credential: () => Credential | undefined
    ledger: Ledger
    onError: ((error: ModelError) => void) | undefined
  }) {
    this.#url = new URL(options.url)
    this.#credential = options.credential
    this.#ledger = options.ledger
    this.#onError = options.onError
  }

  /** Forwards one request, with the host's credential in place of whatever the guest sent. Resolves when it has ended. */
  async serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
    const method = headers[':method'] ?? ''
    const path = headers[':path'] ?? ''
    const route = ROUTES.find((route) => route.method === method && route.path.test(path))
    if (route === undefined) return answerApiError(stream, 404, 'not_found_error', `No ${method} ${path} here.`)
    const credential = this.#credential()
    if (credential === undefined && route.open !== true)
      return this.#refuse(stream, {
        // 402: Claude Code repeats a 401 ten times, a 402 never, and shows its sentence as it is.
        status: 402,
        type: 'authentication_error',
        message: 'No Anthropic credential is stored on this server: set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN.',
      })
    if (route.metered && this.#ledger.refusesMore())
      return this.#refuse(stream, { status: 402, type: 'billing_error', message: "This task's budget is spent." })
    if (this.#open >= MAX_MODEL_REQUESTS)
      return answerApiError(stream, 429, 'rate_limit_error', 'Too many requests of this machine are under way.')
    this.#open += 1
    try {
      await this.#forward(stream, headers, { method, path, metered: route.metered, credential })
    } finally {
      this.#open -= 1
    }
  }

  async #forward(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    { method, path, metered, credential }: Forwarded,
  ): Promise<void> {
    let response: IncomingMessage
    try {
      const request = this.#request(method, path, headers, credential)
      response = await exchange(stream, request, method === 'POST' ? cap(MAX_MODEL_BODY_BYTES) : undefined)
    } catch (error) {
      if (error instanceof BodyTooLargeError) return answerApiError(stream, 413, 'request_too_large', error.message)
      if (!(error instanceof UpstreamError)) throw error
      const message = `The model's API at ${this.#url.origin} can't be reached: ${error.message}.`
      return this.#refuse(stream, { status: 502, type: 'api_error', message })
    }
    const status = response.statusCode ?? 502
    if (status >= 400) return this.#passError(stream, response, method)
    if (metered && status === 200) return this.#passMetered(stream, response, method)
    await passAnswer(stream, response, { method, drop: isCookie })
  }

  #request(
    method: string,
    path: string,
    headers: IncomingHttpHeaders,
    credential: Credential | undefined,
  ): ClientRequest {
    const own = withoutCredentials(endToEnd(headers))
    const clean = method === 'POST' ? own : withoutBody(own)
    const isHttps = this.#url.protocol === 'https:'
    const options = {
      agent: isHttps ? agents.https : agents.http,
      method,
      headers: {
        ...(credential === undefined ? clean : signed(clean, credential)),
        host: this.#url.host,
        // What is compressed can't be counted on its way.
        'accept-encoding': 'identity',
      },
    }
    const url = `${this.#url.origin}${this.#url.pathname.replace(/\/$/, '')}${path}`
    return isHttps ? httpsRequest(url, options) : httpRequest(url, options)
  }

  async #passMetered(stream: ServerHttp2Stream, response: IncomingMessage, method: string): Promise<void> {
    const encoding = response.headers['content-encoding'] ?? 'identity'
    if (encoding !== 'identity') {
      response.destroy()
      const message = `The model's API answered with content-encoding ${encoding}, which can't be counted.`
      return this.#refuse(stream, { status: 502, type: 'api_error', message })
    }
    const meter = new Meter(200, response.headers['content-type'] ?? '')
    this.#ledger.begin(meter)
    try {
      const through = tap(
        (chunk) => meter.push(chunk),
        () => meter.end(),
      )
      await passAnswer(stream, response, { method, drop: isCookie, through })
    } finally {
      this.#ledger.finish(meter)
      if (meter.error !== undefined) this.#onError?.({ status: 200, ...meter.error })
    }
  }

  async #passError(stream: ServerHttp2Stream, response: IncomingMessage, method: string): Promise<void> {
    const reader = new ErrorReader(response.statusCode ?? 502)
    try {
      await passAnswer(stream, response, { method, drop: isCookie, through: tap((chunk) => reader.push(chunk)) })
    } finally {
      this.#onError?.(reader.error())
    }
  }

  #refuse(stream: ServerHttp2Stream, error: ModelError): void {
    this.#onError?.(error)
    answerApiError(stream, error.status, error.type, error.message)
  }
}

interface Forwarded {
  method: string
  path: string
  metered: boolean
  credential: Credential | undefined
}

/** Cookies of the API's front belong to the host's connection. */
function isCookie(name: string): boolean {
  return name === 'set-cookie'
}
