import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ANTHROPIC_AUTHORITY, UPSTREAMS_AUTHORITY } from '../../src/link/constants.ts'
import { forward, refuse, type Target } from './forward.ts'
import type { EgressLink } from './session.ts'
import { tunnel } from './tunnel.ts'

/** Uploads, and the wait for a way out before them, may take as long as they take; clients keep connections longer than Node's default of 5 s, and race its end. */
const SETTINGS = { maxHeaderSize: 64 * 1024, requestTimeout: 0, keepAliveTimeout: 75_000 }

/** What an ordinary proxy is asked for: an absolute `http:` URL. */
function absoluteTarget(request: IncomingMessage): Target | undefined {
  const url = URL.canParse(request.url ?? '') ? new URL(request.url ?? '') : undefined
  if (url?.protocol !== 'http:') return undefined
  return { scheme: 'http', authority: url.host, path: `${url.pathname}${url.search}` }
}

function listenOn(server: Server, port: number): Promise<number> {
  server.listen(port, '127.0.0.1')
  return once(server, 'listening').then(() => (server.address() as AddressInfo).port)
}

/** A server whose every request goes to one authority of the gateway, with the path it was asked for. */
function serverFor(link: EgressLink, authority: string): Server {
  return createServer(SETTINGS, (request: IncomingMessage, response: ServerResponse) => {
    void forward(link, request, response, { scheme: 'https', authority, path: request.url ?? '/' })
  })
}

/** Listens for the guest's programs: an ordinary proxy, the model's API, and upstreams. Resolves with the ports in use. */
export async function listenForPrograms(
  link: EgressLink,
  ports: { proxy: number; anthropic: number; upstreams: number },
) {
  const proxy = createServer(SETTINGS, (request: IncomingMessage, response: ServerResponse) => {
    const target = absoluteTarget(request)
    if (target === undefined) refuse(response, 400, 'This is a proxy: ask for an absolute http URL, or CONNECT.')
    else void forward(link, request, response, target)
  })
  proxy.on('connect', (request, socket, head) => void tunnel(link, request.url ?? '', socket, head))
  const [proxyPort, anthropicPort, upstreamPort] = await Promise.all([
    listenOn(proxy, ports.proxy),
    listenOn(serverFor(link, ANTHROPIC_AUTHORITY), ports.anthropic),
    listenOn(serverFor(link, UPSTREAMS_AUTHORITY), ports.upstreams),
  ])
  return { proxyPort, anthropicPort, upstreamPort }
}
