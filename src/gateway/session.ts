import { constants, performServerHandshake, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { toVivariumError } from '../contracts/errors.ts'
import { startSession } from '../link/preamble.ts'
import { ANTHROPIC_AUTHORITY, MAX_CONCURRENT_STREAMS } from '../link/protocol.ts'
import type { Logger } from '../telemetry/types.ts'
import { answerText } from './answer.ts'
import { forward } from './forward.ts'
import type { Ledger } from './ledger.ts'
import {
  IDLE_TIMEOUT_MS,
  MAX_HEADER_BYTES,
  MAX_HEADER_PAIRS,
  PREAMBLE_TIMEOUT_MS,
  RECEIVE_WINDOW_BYTES,
  SESSION_MEMORY_MB,
} from './limits.ts'
import type { ModelUpstream } from './model.ts'
import { tunnel } from './tunnel.ts'
import type { EgressSession } from './types.ts'
import type { Way } from './way.ts'

const HTTP2_OPTIONS = {
  settings: {
    initialWindowSize: RECEIVE_WINDOW_BYTES,
    maxConcurrentStreams: MAX_CONCURRENT_STREAMS,
    maxHeaderListSize: MAX_HEADER_BYTES,
    enablePush: false,
  },
  maxHeaderListPairs: MAX_HEADER_PAIRS,
  maxSessionMemory: SESSION_MEMORY_MB,
}

/** The host's end of one machine's egress connection, and everything the guest has under way on it. */
export class Session implements EgressSession {
  readonly #model: ModelUpstream
  readonly #way: Way
  readonly #ledger: Ledger
  readonly #log: Logger
  /** Ends the present connection. */
  #current = new AbortController()
  readonly #work = new Set<Promise<void>>()
  #closed = false

  constructor(parts: { model: ModelUpstream; way: Way; ledger: Ledger; log: Logger }) {
    this.#model = parts.model
    this.#way = parts.way
    this.#ledger = parts.ledger
    this.#log = parts.log
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
    const session = performServerHandshake(socket, HTTP2_OPTIONS)
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
    if (this.#work.size >= MAX_CONCURRENT_STREAMS) return stream.close(constants.NGHTTP2_REFUSED_STREAM)
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
    if (headers[':method'] === 'CONNECT') return tunnel(stream, authority, this.#way, signal)
    if (authority.replace(/:\d+$/, '') === ANTHROPIC_AUTHORITY) return this.#model.serve(stream, headers)
    return forward(stream, headers, this.#way, signal)
  }
}
