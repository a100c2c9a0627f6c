import { WebSocket } from 'ws'
import type { VivariumError } from '../contracts/errors.ts'
import type { EventJson } from '../events/types.ts'

/** What may wait in this process for a reader that is slow, in bytes. Beyond it the reader's cursor waits in the log. */
export const HIGH_WATER_BYTES = 64 * 1024

/** Close codes (RFC 6455, 7.4.1 and the IANA registry). */
export const CLOSE = { end: 1000, error: 1011, restart: 1012 } as const

/** The reason of a close frame holds at most 123 bytes. */
const MAX_REASON_BYTES = 123

export interface PumpOptions {
  heartbeatMs: number
  /** Whether the events that ended were all of them. */
  isOver(): Promise<boolean>
  /** What to say of an error. */
  onError(thrown: unknown): VivariumError
}

/**
 * Sends events to a WebSocket, one a message, as fast as it takes them and never faster; then closes it. Resolves when the
 * reader is freed: after the last event, or as soon as the socket closes. Never rejects.
 */
export async function pump(
  socket: WebSocket,
  follow: (signal: AbortSignal) => AsyncIterable<EventJson>,
  options: PumpOptions,
): Promise<void> {
  const gone = new AbortController()
  socket.once('close', () => gone.abort())
  if (socket.readyState !== WebSocket.OPEN) return
  const heartbeat = setInterval(() => socket.ping(), options.heartbeatMs)
  try {
    let sent = Promise.resolve()
    for await (const { json } of follow(gone.signal)) {
      sent = send(socket, json, { binary: false })
      if (socket.bufferedAmount > HIGH_WATER_BYTES) await sent
      else sent.catch(() => undefined) // the socket closed: its 'close' ends the loop
    }
    // ws gives a closing handshake 30 s; a slow reader may need longer for what was sent before.
    await sent
    if (await options.isOver()) socket.close(CLOSE.end, 'end')
    else socket.close(CLOSE.restart, 'the server restarts: ask again from the next seq')
  } catch (thrown) {
    if (!gone.signal.aborted) socket.close(CLOSE.error, reasonOf(options.onError(thrown)))
  } finally {
    clearInterval(heartbeat)
  }
}

/** Resolves when the kernel has taken the message; rejects when the socket closes before. */
export function send(
  socket: WebSocket,
  message: string | Buffer,
  options: { binary: boolean } = { binary: typeof message !== 'string' },
): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(message, options, (error) => (error ? reject(error) : resolve()))
  })
}

/** An error as the reason of a close frame. */
export function reasonOf(error: VivariumError): string {
  const bytes = Buffer.from(`${error.code}: ${error.message}`).subarray(0, MAX_REASON_BYTES)
  return new TextDecoder().decode(bytes, { stream: true })
}
