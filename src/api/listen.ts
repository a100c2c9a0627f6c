import type { AddressInfo, Socket } from 'node:net'
import { Server } from 'node:http'
import { createAdaptorServer, type Http2Bindings, type HttpBindings, type WebSocketServerLike } from '@hono/node-server'
import { WebSocketServer } from 'ws'
import { VivariumError } from '../contracts/errors.ts'
import { CLOSE } from './websocket.ts'

/** What is typed, or pasted, in a shell. */
const MAX_CLIENT_MESSAGE_BYTES = 64 * 1024

/** A large workspace over a slow line takes its time. */
const REQUEST_TIMEOUT_MS = 3_600_000

/** Connections that may wait to be accepted: readers of many tasks come back all at once after a restart. */
const BACKLOG = 4096

/** After this long without a byte the kernel asks whether a client is still there. */
const TCP_KEEPALIVE_MS = 30_000

/** What running answers and streams get to end after `close`, in ms. */
const CLOSE_GRACE_MS = 2000

/** What a client gets to answer the end of its WebSocket, in ms. */
const HANDSHAKE_MS = 500

export interface Listener extends AsyncDisposable {
  /** e.g. `http://127.0.0.1:8080` */
  url: string
  port: number
  /** Clients that are connected right now, quiet streams included. */
  connections(): number
  /** Takes no more requests, lets running answers end for a moment, then cuts what is left. Idempotent. */
  close(): Promise<void>
}

/** How requests are answered: an app's `fetch`. The bindings carry what a WebSocket upgrade needs. */
export type AnswerRequest = (request: Request, bindings: HttpBindings | Http2Bindings) => Response | Promise<Response>

/**
 * Puts an app on a port; port 0 takes a free one. Rejects with `conflict` where the port is taken, unless `anyPort` says
 * that a free one will do, and with `setup_required` where the address can't be had at all. With `fd`, a socket that listens already takes the
 * place of the port; its host must be the address's, by which requests are checked.
 */
export async function listen(
  fetch: AnswerRequest,
  address: { host: string; port: number },
  options: { anyPort: boolean; fd?: number | undefined } = { anyPort: false },
): Promise<Listener> {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_CLIENT_MESSAGE_BYTES })
  const server = createAdaptorServer({
    fetch,
    hostname: address.host,
    // Replacing the global Request would reach into every other part of the process.
    overrideGlobalObjects: false,
    // The adaptor is made for this very class, but declares its options less exactly than the class does.
    websocket: { server: sockets as unknown as WebSocketServerLike },
    serverOptions: {
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEPALIVE_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
    },
  })
  if (!(server instanceof Server)) throw new TypeError('the adaptor made no HTTP/1.1 server')
  const { port } = await bind(server, address, options.fd).catch((error: unknown) => {
    if (options.anyPort && error instanceof VivariumError && error.code === 'conflict') {
      return bind(server, { ...address, port: 0 })
    }
    throw error
  })
  const clients = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    clients.add(socket)
    socket.once('close', () => clients.delete(socket))
  })
  const host = reachable(bare(address.host))
  const close = once(() => stop(server, sockets))
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
    port,
    connections: () => clients.size,
    close,
    [Symbol.asyncDispose]: close,
  }
}

async function stop(server: Server, sockets: WebSocketServer): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const end = setTimeout(() => {
    for (const socket of sockets.clients) socket.close(CLOSE.restart, 'the server restarts')
    server.closeAllConnections()
  }, CLOSE_GRACE_MS)
  const cut = setTimeout(() => sockets.clients.forEach((socket) => socket.terminate()), CLOSE_GRACE_MS + HANDSHAKE_MS)
  await closed
  clearTimeout(end)
  clearTimeout(cut)
}

function bind(server: Server, { host, port }: { host: string; port: number }, fd?: number): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    const refused = (error: NodeJS.ErrnoException): void => {
      const taken = error.code === 'EADDRINUSE'
      const why = taken ? 'something else listens there already' : error.message
      const message = `Cannot listen on ${host}:${port}: ${why}. Choose another address with --listen or VIVARIUM_LISTEN.`
      reject(new VivariumError(taken ? 'conflict' : 'setup_required', message, { cause: error }))
    }
    server.once('error', refused)
    server.listen(fd === undefined ? { port, host: bare(host), backlog: BACKLOG } : { fd }, () => {
      server.off('error', refused)
      const address = server.address()
      if (address !== null && typeof address === 'object' && (fd === undefined || isAt(address, host))) {
        return resolve(address)
      }
      server.close()
      const where = typeof address === 'string' ? address : (address?.address ?? 'no address')
      const message = `The socket that was handed over listens on ${where}, and the setting "listen" says ${host}: make them the same.`
      reject(new VivariumError('setup_required', message))
    })
  })
}

function isAt({ address }: AddressInfo, host: string): boolean {
  return address === bare(host) || (host === 'localhost' && (address === '127.0.0.1' || address === '::1'))
}

/** Where this machine itself reaches what listens on every address. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  return host === '::' ? '::1' : host
}

/** An IPv6 address without its brackets. */
function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1')
}

function once<Value>(make: () => Value): () => Value {
  let made: { value: Value } | undefined
  return () => (made ??= { value: make() }).value
}
