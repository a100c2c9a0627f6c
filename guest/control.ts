import { performServerHandshake, type ServerHttp2Stream, type IncomingHttpHeaders } from 'node:http2'
import type { Socket } from 'node:net'
import { MAX_CONCURRENT_STREAMS, WINDOW_BYTES } from '../src/link/constants.ts'
import { postBaseline } from './changes/record.ts'
import { getChanges } from './changes/changes.ts'
import { getPatch } from './changes/git.ts'
import { Execs } from './execs/table.ts'
import { postArchive, putArchive } from './files/archive.ts'
import { getFile, putFile } from './files/file.ts'
import { getTree } from './files/tree.ts'
import { hello } from './hello.ts'
import { answerError, Refusal, type Request } from './http.ts'
import type { Kernel } from './kernel.ts'
import { log } from './log.ts'
import type { AgentOptions } from './options.ts'
import type { Parking } from './park.ts'

type Handler = (request: Request) => Promise<void>

/** What the requests are about besides files. `kernel` is undefined outside a VM. */
export interface AgentParts {
  parking: Parking
  kernel: Kernel | undefined
}

/** Requests by method and first path segment. */
function routes(options: AgentOptions, { parking, kernel }: AgentParts): Record<string, Handler> {
  const execs = new Execs(options)
  const exec: Handler = (request) => execs.handle(request)
  return {
    'POST hello': async (request) => {
      await hello(request, kernel)
      parking.resume()
    },
    'POST park': (request) => {
      kernel?.ensure()
      return parking.park(request)
    },
    'PUT execs': exec,
    'GET execs': exec,
    'POST execs': exec,
    'GET files': getFile,
    'PUT files': (request) => putFile(request, options.switchUsers),
    'GET tree': getTree,
    'PUT archive': (request) => putArchive(request, options.switchUsers),
    'POST archive': postArchive,
    'POST baseline': (request) => postBaseline(request, options),
    'GET changes': (request) => getChanges(request, options.stateDir),
    'GET patch': (request) => getPatch(request, options),
  }
}

/** Serves the host's requests on each `control` session; state outlives sessions. */
export function controlServer(options: AgentOptions, parts: AgentParts): (socket: Socket) => Promise<void> {
  const handlers = routes(options, parts)

  async function handle(stream: ServerHttp2Stream, headers: IncomingHttpHeaders) {
    const aborter = new AbortController()
    // With a reason: without one, an error is made that nobody reads.
    stream.once('close', () => aborter.abort('closed'))
    // Every failure also ends in 'close'.
    stream.on('error', () => undefined)
    try {
      const url = new URL(headers[':path'] ?? '/', 'http://agent')
      const method = headers[':method'] ?? 'GET'
      const segments = url.pathname.slice(1).split('/').map(decodeURIComponent)
      const handler = handlers[`${method} ${segments[0]}`]
      if (handler === undefined) throw new Refusal(404, `no such request: ${method} ${url.pathname}`)
      await handler({ stream, method, segments, query: url.searchParams, closed: aborter.signal })
    } catch (error) {
      answerError(stream, error)
    }
  }

  return (socket) =>
    new Promise((resolve) => {
      const session = performServerHandshake(socket, {
        maxSessionMemory: 64,
        settings: { initialWindowSize: WINDOW_BYTES, maxConcurrentStreams: MAX_CONCURRENT_STREAMS },
      })
      session.setLocalWindowSize(WINDOW_BYTES * 4)
      session.on('stream', (stream, headers) => void handle(stream, headers))
      session.on('error', (error) => log(`control: ${error.message}`))
      session.once('close', () => resolve())
    })
}
