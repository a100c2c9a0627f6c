import { randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { VivariumError } from '../contracts/errors.ts'
import { FLUSH_BYTES, HELLO_INTERVAL_MS, MAX_PREAMBLE_BYTES } from './constants.ts'
import { preambleLine, PreambleScanner } from './scanner.ts'

export interface PreambleOptions {
  /** How long the guest may take to answer: as long as a boot, where the connection is older than the guest's agent. */
  deadlineMs: number
  /** How long it may take to go on once it has answered; a guest that does not is gone again. */
  readyMs?: number
  signal?: AbortSignal
  /** How much of an old session may come first. */
  maxBytes?: number
}

const READY_MS = 10_000

/**
 * The host's end of the preamble (see `protocol.ts`), for `control` and `egress` alike. When it resolves the socket is
 * paused, bytes that followed the preamble are back in it, and HTTP/2 can begin: as the client with
 * `http2.connect(…, { createConnection: () => socket })`, as the server with `server.emit('connection', socket)`.
 * Rejects with `guest_lost` (connection ended, deadline, aborted) or `guest_misbehaved` (too much before the answer); the
 * socket is destroyed then.
 */
export function startSession(socket: Duplex, options: PreambleOptions): Promise<void> {
  return begun.delete(socket) ? Promise.resolve() : begin(socket, options)
}

/** Connections whose session has begun and is nobody's yet. */
const begun = new WeakSet<Duplex>()

/**
 * Begins a session ahead of time, for whoever calls `startSession` with the same connection next and goes on at once. What the guest sends
 * meanwhile waits unread.
 */
export async function startSessionEarly(socket: Duplex, options: PreambleOptions): Promise<void> {
  await begin(socket, options)
  begun.add(socket)
}

function begin(socket: Duplex, options: PreambleOptions): Promise<void> {
  const nonce = randomBytes(16).toString('hex')
  const maxBytes = options.maxBytes ?? MAX_PREAMBLE_BYTES
  const scanner = new PreambleScanner()
  let echoed = false
  let sent = false
  let ready = false

  return new Promise((resolve, reject) => {
    const finish = (error?: VivariumError) => {
      clearInterval(hello)
      clearTimeout(deadline)
      options.signal?.removeEventListener('abort', onAbort)
      socket.off('data', onData).off('close', onClose)
      if (error === undefined) {
        // In this order: a socket that still flows would lose what is put back.
        socket.pause()
        if (scanner.rest().length > 0) socket.unshift(scanner.rest())
        resolve()
      } else {
        socket.destroy()
        reject(error)
      }
    }
    const lost = (message: string) => finish(new VivariumError('guest_lost', message))
    const onClose = () => lost('The guest closed its connection before a session began.')
    // Always followed by 'close'. Stays: an error must not crash the host before the session has a listener of its own.
    const onError = () => undefined
    const onAbort = () => lost('The link was closed before a session began.')
    const onDeadline = () => lost('The guest did not start a session in time.')
    // Both, in either order: a guest may say ready before it has read our go, and HTTP/2 must not find a write under way,
    // for which Node ends the whole process (`Http2Session::OnStreamAfterWrite`).
    const onSent = () => {
      sent = true
      if (ready) finish()
    }
    const onReady = () => {
      ready = true
      socket.pause()
      if (sent) finish()
    }
    const onData = (chunk: Buffer) => {
      scanner.push(chunk)
      for (let line = scanner.next(); line !== undefined; line = scanner.next()) {
        if (line.nonce !== nonce) continue
        if (line.verb === 'echo' && !echoed) {
          echoed = true
          clearInterval(hello)
          clearTimeout(deadline)
          deadline = setTimeout(onDeadline, Math.min(options.readyMs ?? READY_MS, options.deadlineMs))
          socket.write(preambleLine('go', nonce), onSent)
        }
        if (line.verb === 'ready' && echoed) return onReady()
      }
      if (scanner.discarded > maxBytes)
        finish(new VivariumError('guest_misbehaved', `The guest sent ${maxBytes} bytes without starting a session.`))
    }
    const sayHello = () => {
      // A guest that reads nothing must not make us buffer hellos for as long as the deadline lasts.
      if (socket.writableLength < FLUSH_BYTES * 2) socket.write(preambleLine('hello', nonce))
    }

    const hello = setInterval(sayHello, HELLO_INTERVAL_MS)
    let deadline = setTimeout(onDeadline, options.deadlineMs)
    socket.on('error', onError).on('close', onClose).on('data', onData)
    options.signal?.addEventListener('abort', onAbort)
    if (options.signal?.aborted === true) return onAbort()
    if (socket.destroyed) return onClose()
    socket.write(Buffer.alloc(FLUSH_BYTES, 0x0a))
    sayHello()
  })
}
