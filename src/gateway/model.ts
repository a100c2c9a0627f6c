import type { IncomingMessage } from 'node:http'
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { pipeline } from 'node:stream/promises'
import { VivariumError } from '../contracts/errors.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { answerApiError, endStream } from './answer.ts'
import { attributionOf } from './attribution.ts'
import { Charge } from './charge.ts'
import { CountedAnswer, hasLeft, Patience } from './counted-answer.ts'
import type { Credential } from './credentials.ts'
import { HeldMachine, type Holds } from './holds.ts'
import type { Ledger } from './ledger.ts'
import { MAX_LIMIT_NOTICES, MAX_MODEL_BODY_BYTES, MAX_MODEL_REQUESTS } from './limits.ts'
import { Meter } from './meter.ts'
import { readError, type ModelError } from './model-error.ts'
import { ModelEndpoint, type GuestRequest } from './model-endpoint.ts'
import type { PriceTable } from './price-table.ts'
import { holdOf, isRateLimit, type Hold } from './rate-limit.ts'
import { atMost, BodyTooLargeError, exchange, holdEnd, passAnswer, passHead, tap, UpstreamError } from './relay.ts'
import type { EgressContext } from './types.ts'

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

/** The one of them that a request is for, if any. */
export function routeOf(method: string, path: string) {
  return ROUTES.find((route) => route.method === method && route.path.test(path))
}

/** 402: Claude Code repeats a 401 ten times, a 402 never, and shows its sentence as it is. */
const NO_CREDENTIAL: ModelError = {
  status: 402,
  type: 'authentication_error',
  message:
    'No Anthropic credential is stored for you on this server: store one with "vivarium secret set anthropic-api-key".',
}

/** The credential of a machine's user. `use` is for a request that is sent, and noted as such. */
export interface ModelCredential {
  kind(): Credential['kind'] | undefined
  use(): Credential | undefined
}

export interface ModelUpstreamOptions {
  url: string
  credential: ModelCredential
  prices: PriceTable
  ledger: Ledger
  holds: Holds
  context: Pick<EgressContext, 'onHeld' | 'onModelError' | 'onNotice'>
  now: () => Date
}

/** The model's API as one machine may use it. */
export class ModelUpstream {
  readonly #options: ModelUpstreamOptions
  readonly #endpoint: ModelEndpoint
  readonly #held: HeldMachine
  readonly #closed = new AbortController()
  #open = 0
  #notices = 0

  constructor(options: ModelUpstreamOptions) {
    this.#options = options
    this.#endpoint = new ModelEndpoint(options.url)
    this.#held = new HeldMachine(options.holds, options.context.onHeld, this.#closed.signal)
  }

  /** Ends what waits, and what is still counted for a guest that has left. */
  close(): void {
    this.#closed.abort(new Error('The machine is gone.'))
  }

  /** Forwards one request, with the host's credential in place of whatever the guest sent. Resolves when it has ended. */
  async serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
    const method = headers[':method'] ?? ''
    const path = headers[':path'] ?? ''
    const route = routeOf(method, path)
    if (route === undefined) return answerApiError(stream, 404, 'not_found_error', `No ${method} ${path} here.`)
    const open = route.open === true
    if (!open && this.#options.credential.kind() === undefined) return this.#refuse(stream, NO_CREDENTIAL)
    if (this.#open >= MAX_MODEL_REQUESTS)
      return answerApiError(stream, 429, 'rate_limit_error', 'Too many requests of this machine are under way.')
    this.#open += 1
    try {
      const request = { method, path, headers }
      if (route.metered) await this.#serveMetered(stream, request)
      else await this.#serveOther(stream, request, open ? undefined : this.#options.credential.use())
    } catch (error) {
      this.#answerFailure(stream, error)
    } finally {
      this.#open -= 1
    }
  }

  async #serveOther(
    stream: ServerHttp2Stream,
    request: GuestRequest,
    credential: Credential | undefined,
  ): Promise<void> {
    const body = request.method === 'POST' ? tap(atMost(MAX_MODEL_BODY_BYTES)) : undefined
    const response = await exchange(stream, this.#endpoint.request(request, credential), body)
    // Limits of what costs nothing are limits of its own: they hold nothing else.
    if ((response.statusCode ?? 502) >= 400) return this.#passError(stream, request, response, undefined)
    await passAnswer(stream, response, { method: request.method, drop: isCookie })
  }

  /** What costs money: waits for its account and its budgets, and is counted whatever becomes of it. */
  async #serveMetered(stream: ServerHttp2Stream, request: GuestRequest): Promise<void> {
    const { ledger, prices, now } = this.#options
    using patience = new Patience(stream, this.#closed.signal)
    const credential = await this.#freeCredential(patience.guestThere)
    const charge = new Charge(prices, attributionOf(request.headers), now())
    const refusal = await ledger.admit(charge, patience.guestThere)
    if (refusal !== undefined)
      return this.#refuse(stream, { status: 402, type: 'billing_error', message: refusal.reason })
    try {
      const response = await this.#send(stream, request, { credential, charge, patience })
      if (response.statusCode === 200) await this.#passCounted(stream, response, { charge, patience })
      else await this.#passUnbilled(stream, request, { response, charge, credential })
    } finally {
      void ledger.finish(charge)
    }
  }

  /** The credential to send, once its account takes requests. Rejects with `signal`. */
  async #freeCredential(signal: AbortSignal): Promise<Credential | undefined> {
    for (;;) {
      signal.throwIfAborted()
      // Looked up anew after each wait: it may be another one by then.
      const credential = this.#options.credential.use()
      if (credential === undefined || !(await this.#held.wait(credential, signal))) return credential
    }
  }

  async #send(
    stream: ServerHttp2Stream,
    request: GuestRequest,
    { credential, charge, patience }: { credential: Credential | undefined; charge: Charge; patience: Patience },
  ): Promise<IncomingMessage> {
    const outgoing = this.#endpoint.request(request, credential).once('finish', () => {
      charge.sent()
      crashPoint('model request sent')
    })
    patience.over.addEventListener('abort', () => outgoing.destroy(), { once: true })
    const check = atMost(MAX_MODEL_BODY_BYTES)
    const body = holdEnd(
      (chunk) => {
        check(chunk)
        charge.reader.push(chunk)
      },
      // What is not whole is not billed, so that this is early enough, and all that is to be written down has passed by.
      () => this.#options.ledger.begin(charge),
    )
    // The API answers, and bills, what it was sent whole, whoever has left meanwhile.
    return exchange(stream, outgoing, body, () => outgoing.writableEnded)
  }

  async #passCounted(
    stream: ServerHttp2Stream,
    response: IncomingMessage,
    { charge, patience }: { charge: Charge; patience: Patience },
  ): Promise<void> {
    const encoding = response.headers['content-encoding'] ?? 'identity'
    if (encoding !== 'identity') {
      response.destroy()
      const message = `The model's API answered with content-encoding ${encoding}, which can't be counted.`
      return this.#refuse(stream, { status: 502, type: 'api_error', message })
    }
    const { ledger } = this.#options
    const meter = new Meter(200, response.headers['content-type'] ?? '', this.#options.prices)
    charge.answered(meter)
    try {
      if (!hasLeft(stream)) passHead(stream, response, { method: 'POST', drop: isCookie })
      const answer = new CountedAnswer(stream, meter, {
        onSeen: () => ledger.note(charge),
        onEnd: () => ledger.finish(charge),
      })
      await pipeline(response, answer, { signal: patience.over })
      crashPoint('model request answered')
      if (!hasLeft(stream)) endStream(stream)
    } finally {
      if (meter.error !== undefined) this.#options.context.onModelError?.({ status: 200, ...meter.error })
    }
  }

  async #passUnbilled(
    stream: ServerHttp2Stream,
    request: GuestRequest,
    parts: { response: IncomingMessage; charge: Charge; credential: Credential | undefined },
  ): Promise<void> {
    const { response, charge, credential } = parts
    charge.refused()
    if ((response.statusCode ?? 502) >= 400) return this.#passError(stream, request, response, credential)
    await passAnswer(stream, response, { method: request.method, drop: isCookie })
  }

  /** Passes an error on as it is, unless it says that the account takes nothing for a long time. */
  async #passError(
    stream: ServerHttp2Stream,
    { method }: GuestRequest,
    response: IncomingMessage,
    credential: Credential | undefined,
  ): Promise<void> {
    const { error, body } = await readError(response)
    this.#options.context.onModelError?.(error)
    const hold = isRateLimit(error.status) ? holdOf(response.headers, error.message, this.#options.now()) : undefined
    if (isRateLimit(error.status)) this.#notice(error, hold)
    if (hold !== undefined && credential !== undefined) {
      this.#held.meet(credential, hold)
      // Claude Code tries again after this one, soon and on any kind of account; that request then waits here.
      return answerApiError(stream, 529, 'overloaded_error', error.message)
    }
    const hasBody = passHead(stream, response, { method, drop: (name) => isCookie(name) || name === 'content-length' })
    if (hasBody) stream.end(body, () => endStream(stream))
  }

  #notice({ status, type, message }: ModelError, hold: Hold | undefined): void {
    this.#notices += 1
    if (this.#notices > MAX_LIMIT_NOTICES) return
    const wait = hold === undefined ? '' : ` (model requests of this account wait until ${hold.until.toISOString()})`
    this.#options.context.onNotice?.(`The model's API answered ${status} ${type}${wait}: ${message}`)
  }

  #answerFailure(stream: ServerHttp2Stream, error: unknown): void {
    if (error instanceof BodyTooLargeError) return answerApiError(stream, 413, 'request_too_large', error.message)
    if (error instanceof VivariumError && error.code === 'storage_failed')
      // Claude Code tries again after this one.
      return this.#refuse(stream, { status: 529, type: 'overloaded_error', message: error.message })
    if (error instanceof VivariumError)
      return this.#refuse(stream, { status: 402, type: 'authentication_error', message: error.message })
    if (!(error instanceof UpstreamError) || hasLeft(stream)) throw error
    const message = `The model's API at ${this.#endpoint.origin} can't be reached: ${error.message}.`
    this.#refuse(stream, { status: 502, type: 'api_error', message })
  }

  #refuse(stream: ServerHttp2Stream, error: ModelError): void {
    this.#options.context.onModelError?.(error)
    answerApiError(stream, error.status, error.type, error.message)
  }
}

/** Cookies of the API's front belong to the host's connection. */
function isCookie(name: string): boolean {
  return name === 'set-cookie'
}
