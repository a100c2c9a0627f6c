import { connect, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2'
import type { Socket } from 'node:net'
import { ANTHROPIC_AUTHORITY, MAX_CONCURRENT_STREAMS, WINDOW_BYTES } from '../../src/link/constants.ts'
import { log } from '../log.ts'

/**
 * How long a request waits for the way out to come up, before it is answered with 504: the host's program may be restarted or upgraded
 * meanwhile. Not counted while the way out is held. Other programs give up soon themselves.
 */
export const WAIT_MS = 2 * 60_000
/** The same of a model request; less than the 10 minutes after which Claude Code gives one up. */
export const MODEL_WAIT_MS = 9 * 60_000
/** How long streams that were reset may take to end. */
const RESET_MS = 1000

/** The HTTP/2 session to the host's gateway; a new one after each break. */
export class EgressLink {
  #session: ClientHttp2Session | undefined
  #held = false
  readonly #waiting = new Set<() => void>()
  readonly #streams = new Set<ClientHttp2Stream>()
  readonly #modelStreams = new Set<ClientHttp2Stream>()

  /** Runs a session over a socket whose preamble is done, until it ends. */
  serve(socket: Socket): Promise<void> {
    return new Promise((resolve) => {
      const session = connect('http://host.internal', {
        createConnection: () => socket,
        maxSessionMemory: 64,
        peerMaxConcurrentStreams: MAX_CONCURRENT_STREAMS,
        settings: { enablePush: false, initialWindowSize: WINDOW_BYTES },
      })
      session.on('error', (error) => log(`egress: ${error.message}`))
      session.once('connect', () => {
        session.setLocalWindowSize(WINDOW_BYTES * 4)
        this.#session = session
        this.#tell()
      })
      session.once('close', () => {
        if (this.#session === session) this.#session = undefined
        resolve()
      })
    })
  }

  /** The session, waiting for one if there is none or it is held; undefined when none comes in time. */
  async session(waitMs: number): Promise<ClientHttp2Session | undefined> {
    // A clock that stands still while the machine is saved, and is not set.
    let deadline = performance.now() + waitMs
    while (this.#up === undefined) {
      const left = deadline - performance.now()
      if (left <= 0 && !this.#held) return undefined
      await this.#change(Math.max(left, 0))
      if (this.#held) deadline = performance.now() + waitMs
    }
    return this.#up
  }

  /** Opens a stream on the session just given. Throws where HTTP/2 cannot carry these headers. */
  open(session: ClientHttp2Session, headers: OutgoingHttpHeaders, options: { endStream: boolean }): ClientHttp2Stream {
    const stream = session.request(headers, options)
    const streams = headers[':authority'] === ANTHROPIC_AUTHORITY ? this.#modelStreams : this.#streams
    streams.add(stream)
    stream.once('close', () => {
      streams.delete(stream)
      this.#tell()
    })
    return stream
  }

  /** From now on requests wait until `release`. */
  hold(): void {
    this.#held = true
    this.#tell()
  }

  release(): void {
    this.#held = false
    this.#tell()
  }

  /**
   * Cuts what is under way, model requests only if they have not ended within `drainMs`. Resolves when nothing is under way any
   * more, or `signal` is aborted.
   */
  async drain(drainMs: number, signal: AbortSignal): Promise<void> {
    await this.#reset(this.#streams, signal)
    await this.#emptied(this.#modelStreams, drainMs, signal)
    if (!signal.aborted) await this.#reset(this.#modelStreams, signal)
  }

  #reset(streams: ReadonlySet<ClientHttp2Stream>, signal: AbortSignal): Promise<void> {
    for (const stream of streams) stream.close(8 /* CANCEL */)
    return this.#emptied(streams, RESET_MS, signal)
  }

  async #emptied(streams: ReadonlySet<unknown>, timeoutMs: number, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + timeoutMs
    while (streams.size > 0 && !signal.aborted && performance.now() < deadline)
      await this.#change(deadline - performance.now(), signal)
  }

  /** The session that carries requests now. */
  get #up(): ClientHttp2Session | undefined {
    const session = this.#session
    return this.#held || session === undefined || session.closed || session.destroyed ? undefined : session
  }

  /** Resolves when something may have changed, after `ms` at the latest, or when `signal` is aborted. */
  #change(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#waiting.add(done)
      signal?.addEventListener('abort', done)
    })
  }

  #tell(): void {
    for (const done of this.#waiting) done()
  }
}
