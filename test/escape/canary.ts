import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import {
  createServer as createTcpServer,
  type AddressInfo,
  type ListenOptions,
  type Server,
  type Socket,
} from 'node:net'
import { networkInterfaces } from 'node:os'

/** Where the policy of the test lets a guest go, besides nothing. Loopback, but not an address that tools leave their proxy out for. */
export const NAMED = '127.0.0.2'

export interface Canary extends AsyncDisposable {
  /** The port of `NAMED` that the policy names. The same port of every other loopback address is watched. */
  port: number
  /** A port of `NAMED` that the policy does not name. */
  otherPort: number
  /** What arrived where no rule leads, such as `tcp 127.0.0.1:4711`. */
  reached: string[]
  /** What was asked of the server that the policy names, such as `GET /hello`. */
  asked: string[]
  /** Connections to that server so far, and the most there were at once. */
  connections: { total: number; most: number }
}

/**
 * Listens on this host's loopback in every way a guest could try to get there. One address and port of all is a web server that
 * a policy may name; whatever reaches any other is written down.
 */
export async function startCanary(): Promise<Canary> {
  await using stack = new AsyncDisposableStack()
  const reached: string[] = []
  const asked: string[] = []
  const connections = { total: 0, most: 0 }

  const named = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    answer(request, response)
  })
  named.on('connection', () => {
    connections.total += 1
    named.getConnections((_error, count) => (connections.most = Math.max(connections.most, count)))
  })
  const { port } = await listen(stack, named, { port: 0, host: NAMED })

  const watch = async (host: string, at: number) => {
    const server = createTcpServer((socket) => {
      reached.push(`tcp ${host}:${socket.localPort}`)
      socket.end('You have reached the canary.\n')
    })
    return (await listen(stack, server, { port: at, host, ipv6Only: true })).port
  }
  const otherPort = await watch(NAMED, 0)
  const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'))
  for (const host of ['127.0.0.1', '127.0.0.9', ...(hasIpv6 ? ['::1'] : [])]) await watch(host, port)

  const udp = createSocket('udp4', () => reached.push(`udp 127.0.0.1:${port}`)).bind(port, '127.0.0.1')
  await once(udp, 'listening')
  stack.defer(() => void udp.close())

  const ownership = stack.move()
  const dispose = () => ownership.disposeAsync()
  return { port, otherPort, reached, asked, connections, [Symbol.asyncDispose]: dispose }
}

async function listen(stack: AsyncDisposableStack, server: Server, options: ListenOptions): Promise<AddressInfo> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket.on('error', () => undefined))
    socket.once('close', () => sockets.delete(socket))
  })
  server.listen(options)
  await once(server, 'listening')
  stack.defer(async () => {
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  })
  return server.address() as AddressInfo
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://named')
  if (pathname === '/redirect') response.writeHead(302, { location: searchParams.get('to') ?? '' }).end()
  // Takes the head of a request, and no byte of its body.
  else if (pathname === '/deaf') request.pause()
  else if (pathname === '/endless') pour(response)
  else request.resume().once('end', () => response.end('let through'))
}

function pour(response: ServerResponse): void {
  const piece = Buffer.alloc(64 * 1024)
  const go = () => {
    while (!response.destroyed && response.write(piece));
  }
  response.on('drain', go)
  go()
}
