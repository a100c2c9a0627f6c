import { connect, type ClientHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import { MAX_CONCURRENT_STREAMS, WINDOW_BYTES } from '../../src/link/constants.ts'
import { log } from '../log.ts'

/** How long a request waits for the way out to come up, before it is answered with 504. */
const WAIT_MS = 30_000

/** The HTTP/2 session to the host's gateway; a new one after each break. */
export class EgressLink {
  #session: ClientHttp2Session | undefined
  #waiting: (() => void)[] = []

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
        for (const resume of this.#waiting.splice(0)) resume()
      })
      session.once('close', () => {
        if (this.#session === session) this.#session = undefined
        resolve()
      })
    })
  }

  /** The session, waiting for one if there is none; undefined when none comes in time. */
  async session(): Promise<ClientHttp2Session | undefined> {
    const deadline = Date.now() + WAIT_MS
    while (this.#session === undefined || this.#session.closed || this.#session.destroyed) {
      const left = deadline - Date.now()
      if (left <= 0) return undefined
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#waiting.push(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
    return this.#session
  }
}
