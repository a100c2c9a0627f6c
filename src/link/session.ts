import { type ClientHttp2Stream, connect, type OutgoingHttpHeaders } from 'node:http2'
import type { Duplex } from 'node:stream'
import { MAX_CONCURRENT_STREAMS, WINDOW_BYTES } from './constants.ts'
import type { LinkSettings } from './options.ts'
import { startSession } from './preamble.ts'

export interface SessionEnd {
  /** A sentence. */
  reason: string
  /** The guest broke the protocol, as opposed to: its connection ended. */
  violation: boolean
}

/** One HTTP/2 session on `control`, from its first answered settings frame on. */
export interface Session {
  /** Whether it is of no more use: it has ended, is about to, or was retired. */
  readonly over: boolean
  /** Resolves when it is over. Never rejects. */
  readonly ended: Promise<SessionEnd>
  /** Resolves when its connection is gone. */
  readonly closed: Promise<void>
  /** Opens a stream. Throws where the session is over. */
  request(headers: OutgoingHttpHeaders, options: { endStream: boolean }): ClientHttp2Stream
  close(reason: string): void
  /**
   * Ends every stream and all pings, but keeps the connection until `close`: HTTP/2 cannot hand it back, and a VMM that loses it
   * takes up to a second to dial again, in which its guest finds a dead port.
   */
  retire(reason: string): void
}

const MISSED_PINGS = 3

/**
 * Limits towards a hostile server. Memory of a session is bounded by its streams' windows, one a call of ours; headers,
 * settings, unacknowledged control frames by nghttp2's own limits and these.
 */
const LIMITS = {
  maxSessionMemory: 64,
  maxHeaderListPairs: 32,
  maxReservedRemoteStreams: 0,
  maxSessionInvalidFrames: 10,
  maxOutstandingPings: MISSED_PINGS + 1,
  peerMaxConcurrentStreams: MAX_CONCURRENT_STREAMS,
  settings: { enablePush: false, initialWindowSize: WINDOW_BYTES, maxHeaderListSize: 16 * 1024 },
}

/**
 * Starts a session on a new connection. Resolves once it carries requests; rejects with what `startSession` rejects with,
 * or a SessionEnd where HTTP/2 itself could not begin. The socket is destroyed with the session. A guest is not silent while `isHalted`.
 */
export async function openSession(
  socket: Duplex,
  settings: LinkSettings,
  isHalted: () => boolean,
  signal: AbortSignal,
): Promise<Session> {
  const { firstSessionMs, readyMs, pingMs } = settings.deadlines
  await startSession(socket, { deadlineMs: firstSessionMs, readyMs, signal })
  const http = connect('http://agent', { createConnection: () => socket, ...LIMITS })
  const streams = new Set<ClientHttp2Stream>()
  let end: SessionEnd = { reason: 'The guest closed its connection.', violation: false }
  let retired = false

  const { promise: ended, resolve: resolveEnded } = Promise.withResolvers<SessionEnd>()
  const closed = new Promise<void>((resolve) => {
    http.once('close', () => {
      socket.destroy()
      resolveEnded(end)
      resolve()
    })
  })
  const finish = (reason: string, violation: boolean) => {
    if (http.destroyed) return
    end = { reason, violation }
    http.destroy()
  }
  http.on('error', (error: NodeJS.ErrnoException) => {
    // Errors of the connection itself are no fault of the guest's agent.
    const violation = error.code?.startsWith('ERR_HTTP2') ?? true
    if (end.violation) return
    end = {
      reason: violation ? `The guest broke HTTP/2: ${error.message}.` : `The connection failed: ${error.message}.`,
      violation,
    }
  })
  http.once('goaway', () => finish('The guest ended the session.', false))
  http.once('connect', () => http.setLocalWindowSize(WINDOW_BYTES * 4))

  let missed = 0
  // Counted in ticks, not by the clock: a host that was itself held up must not blame the guest.
  const pinging = setInterval(() => {
    if (isHalted()) {
      missed = Math.min(missed, 1) // the one under way is answered when the guest goes on
      return
    }
    if (missed >= MISSED_PINGS) return finish('The guest has gone silent.', false)
    if (missed === 0) sendPing()
    else missed += 1
  }, pingMs)
  const sendPing = () => {
    missed = 1
    try {
      http.ping((error) => {
        if (error === null) missed = 0
      })
    } catch {
      // The session is going: 'close' follows.
    }
  }
  const starting = setTimeout(() => finish('The guest did not begin HTTP/2.', true), readyMs)
  void ended.then(() => clearInterval(pinging))
  try {
    const up = new Promise<true>((resolve) => http.once('remoteSettings', () => resolve(true)))
    const early = await Promise.race([up, ended])
    if (early !== true) throw early
  } finally {
    clearTimeout(starting)
  }
  return {
    get over() {
      return retired || http.closed || http.destroyed
    },
    ended,
    closed,
    request(headers, options) {
      if (retired) throw new Error('the session is retired')
      const stream = http.request(headers, options)
      streams.add(stream)
      stream.once('close', () => streams.delete(stream))
      return stream
    },
    close: (reason) => finish(reason, false),
    retire(reason) {
      retired = true
      resolveEnded({ reason, violation: false })
      for (const stream of streams) stream.destroy()
    },
  }
}
