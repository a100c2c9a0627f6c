import { connect, type ClientHttp2Session } from 'node:http2'
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
  readonly http: ClientHttp2Session
  /** Never rejects. */
  readonly ended: Promise<SessionEnd>
  close(reason: string): void
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
 * or a SessionEnd where HTTP/2 itself could not begin. The socket is destroyed with the session.
 */
export async function openSession(socket: Duplex, settings: LinkSettings, signal: AbortSignal): Promise<Session> {
  const { firstSessionMs, readyMs, pingMs } = settings.deadlines
  await startSession(socket, { deadlineMs: firstSessionMs, readyMs, signal })
  const http = connect('http://agent', { createConnection: () => socket, ...LIMITS })
  let end: SessionEnd = { reason: 'The guest closed its connection.', violation: false }

  const ended = new Promise<SessionEnd>((resolve) => {
    http.once('close', () => {
      socket.destroy()
      resolve(end)
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
  return { http, ended, close: (reason) => finish(reason, false) }
}
