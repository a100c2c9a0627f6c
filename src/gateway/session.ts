import { constants, performServerHandshake, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { toVivariumError } from '../contracts/errors.ts'
import { startSession } from '../link/preamble.ts'
import { ANTHROPIC_AUTHORITY } from '../link/protocol.ts'
import type { Logger } from '../telemetry/types.ts'
import { answerApiError, answerText } from './answer.ts'
import { forward } from './forward.ts'
import type { Ledger } from './ledger.ts'
import {
  BURST_SECONDS,
  IDLE_TIMEOUT_MS,
  MAX_HEADER_BYTES,
  MAX_HEADER_PAIRS,
  PREAMBLE_TIMEOUT_MS,
  RECEIVE_WINDOW_BYTES,
  SESSION_MEMORY_MB,
  type MachineLimits,
} from './limits.ts'
import { routeOf, type ModelUpstream } from './model.ts'
import { Rate } from './rate.ts'
import { MODEL_UPSTREAM } from './rules.ts'
import { Throttled } from './throttled.ts'
import { tunnel } from './tunnel.ts'
import type { EgressSession } from './types.ts'
import { isUpstreamAuthority, readAsked } from './upstreams/asked.ts'
import type { Upstreams } from './upstreams/serve.ts'
import type { Way } from './way.ts'

const HTTP2_OPTIONS = { maxHeaderListPairs: MAX_HEADER_PAIRS, maxSessionMemory: SESSION_MEMORY_MB }
const HTTP2_SETTINGS = {
  initialWindowSize: RECEIVE_WINDOW_BYTES,
  maxHeaderListSize: MAX_HEADER_BYTES,
  enablePush: false,
}

/** A rule that quotes what a guest asked for. */
const MAX_RULE_CHARS = 200

const TOO_MANY = 'This machine makes too many requests a minute (limits.requestsPerMinute): wait, then go on.'

/** The host's end of one machine's egress connection, and everything the guest has under way on it. */
export class Session implements EgressSession {
  readonly #model: ModelUpstream
  readonly #upstreams: Upstreams | undefined
  readonly #way: Way
  readonly #ledger: Ledger
  readonly #log: Logger
  readonly #connections: number
  readonly #bytes: Rate
  readonly #requests: Rate
  /** Ends the present connection. */
  #current = new AbortController()
  readonly #work = new Set<Promise<void>>()
  #closed = false

  constructor(parts: {
    model: ModelUpstream
    upstreams: Upstreams | undefined
    way: Way
    ledger: Ledger
    limits: MachineLimits
    log: Logger
  }) {
    this.#model = parts.model
    this.#upstreams = parts.upstreams
    this.#way = parts.way
    this.#ledger = parts.ledger
    this.#log = parts.log
    const { connections, mbitPerSecond, requestsPerMinute } = parts.limits
    this.#connections = connections
    this.#bytes = new Rate((mbitPerSecond * 1e6) / 8, BURST_SECONDS.bytes)
    this.#requests = new Rate(requestsPerMinute / 60, BURST_SECONDS.requests)
  }

  accept(socket: Duplex): void {
    if (this.#closed) return void socket.destroy()
    this.#current.abort()
    this.#current = new AbortController()
    const { signal } = this.#current
    this.#run(socket, signal).catch((error: unknown) => {
      socket.destroy()
      if (!signal.aborted) this.#log.warn({ err: toVivariumError(error, 'guest_lost') }, 'Egress connection ended')
    })
  }

  totals() {
    return this.#ledger.totals()
  }

  settled(): Promise<void> {
    return this.#ledger.settled()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#current.abort()
    this.#model.close()
    // Each ends by itself now that its stream is gone, and counts what it has seen.
    await Promise.all(this.#work)
    await this.#ledger.settled()
  }

  async #run(socket: Duplex, signal: AbortSignal): Promise<void> {
    await startSession(socket, { deadlineMs: PREAMBLE_TIMEOUT_MS, signal })
    const settings = { ...HTTP2_SETTINGS, maxConcurrentStreams: this.#connections }
    const connection = this.#bytes.isLimited ? new Throttled(socket, this.#bytes) : socket
    const session = performServerHandshake(connection, { ...HTTP2_OPTIONS, settings })
    const end = () => session.destroy()
    signal.addEventListener('abort', end, { once: true })
    session.once('close', () => signal.removeEventListener('abort', end))
    // Node destroys a session that breaks the protocol; the guest then opens a new connection.
    session.on('error', (error) => this.#log.debug({ err: error }, 'Egress session broken'))
    session.on('stream', (stream, headers) => this.#take(stream, headers, signal))
  }

  #take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, signal: AbortSignal): void {
    // A reset by the guest shows as an error here; whoever works on the stream sees it end.
    stream.on('error', () => undefined)
    // Streams that the guest has reset may still hold a connection outside, so they are not what is counted.
    if (this.#work.size >= this.#connections) {
      this.#way.refused(headers[':authority'] ?? '', 'more at once than limits.connections')
      return stream.close(constants.NGHTTP2_REFUSED_STREAM)
    }
    stream.setTimeout(IDLE_TIMEOUT_MS, () => stream.close(constants.NGHTTP2_CANCEL))
    const work = this.#serve(stream, headers, signal)
      .catch((error: unknown) => {
        this.#log.debug({ err: error }, 'Egress stream broken off')
        if (stream.headersSent) stream.close(constants.NGHTTP2_INTERNAL_ERROR)
        else answerText(stream, 502, 'The request could not be forwarded.')
      })
      .finally(() => this.#work.delete(work))
    this.#work.add(work)
  }

  async #serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, signal: AbortSignal): Promise<void> {
    const authority = headers[':authority'] ?? ''
    if (!this.#requests.tryTake()) {
      this.#way.refused(authority, 'more a minute than limits.requestsPerMinute')
      return answerApiError(stream, 429, 'rate_limit_error', TOO_MANY)
    }
    const isConnect = headers[':method'] === 'CONNECT'
    if (!isUpstreamAuthority(authority))
      return isConnect ? tunnel(stream, authority, this.#way, signal) : forward(stream, headers, this.#way, signal)
    if (isConnect) {
      this.#way.refused(authority, 'an upstream is no host')
      return answerText(stream, 400, 'Upstreams are asked by plain http, which never leaves this host.')
    }
    const asked = readAsked(authority, headers[':path'] ?? '')
    if (asked.name === MODEL_UPSTREAM) return this.#serveModel(stream, { ...headers, ':path': asked.path })
    if (this.#upstreams !== undefined) return this.#upstreams.serve(stream, headers, asked)
    this.#way.refused(authority, 'no such upstream')
    answerText(stream, 404, `There is no upstream "${asked.name}" here.`)
  }

  #serveModel(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> | void {
    const denied = (rule: string) => this.#way.decided({ host: ANTHROPIC_AUTHORITY, port: 443, allowed: false, rule })
    const decision = this.#way.policy.decideUpstream(MODEL_UPSTREAM)
    if (!decision.allowed) {
      denied(decision.rule)
      return answerApiError(stream, 403, 'permission_error', decision.advice ?? decision.rule)
    }
    const { ':method': method = '', ':path': path = '' } = headers
    if (routeOf(method, path) === undefined)
      denied(`upstream ${MODEL_UPSTREAM} takes no ${method} ${path.split('?')[0] ?? ''}`.slice(0, MAX_RULE_CHARS))
    return this.#model.serve(stream, headers)
  }
}
