import { on, once } from 'node:events'
import { WebSocket } from 'ws'
import { VivariumError } from '../contracts/errors.ts'
import { ShellEvent, type ShellControl } from '../contracts/shell.ts'
import { type Http, problemError, segment, unreachable } from './http.ts'
import type { CallOptions, ShellConnection, ShellOptions, ShellPiece } from './types.ts'

/** Messages that may wait until they are taken; beyond it the connection is no longer read, which holds the process back. */
const MAX_WAITING_MESSAGES = 16

/** The largest message that the server takes, in bytes. */
const MAX_MESSAGE_BYTES = 64 * 1024

/** Opens the WebSocket of a shell in machine `id`. See `MachinesClient.shell`. */
export async function openShell(
  http: Http,
  id: string,
  apiKey: string | undefined,
  { argv = [], terminal, signal }: ShellOptions & CallOptions,
): Promise<ShellConnection> {
  signal?.throwIfAborted()
  const query = new URLSearchParams(argv.map((word) => ['arg', word]))
  for (const [name, value] of Object.entries(terminal ?? {})) query.set(name, String(value))
  const headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }
  const path = `/vms/${segment(id)}/shell?${query}`
  const socket = new WebSocket(`${http.base.replace(/^http/, 'ws')}/api/v1${path}`, { headers })
  // Before anything can be said: none of it is missed.
  const messages = on(socket, 'message', { close: ['close'], highWaterMark: MAX_WAITING_MESSAGES })
  const leave = () => socket.terminate()
  signal?.addEventListener('abort', leave, { once: true })
  socket.once('close', () => signal?.removeEventListener('abort', leave))
  await Promise.race([once(socket, 'open'), refused(socket, http, path)]).catch((error: unknown) => {
    socket.terminate()
    signal?.throwIfAborted()
    throw unreachable(http.base, error)
  })
  return {
    output: pieces(messages, signal),
    async write(data) {
      for (let at = 0; at < data.length; at += MAX_MESSAGE_BYTES)
        await send(socket, data.subarray(at, at + MAX_MESSAGE_BYTES))
    },
    end: () => send(socket, control({ type: 'end' })),
    resize: (size) => send(socket, control({ type: 'resize', ...size })),
    close: () => socket.terminate(),
  }
}

/** Rejects with the problem where the server refuses to open the socket: an upgrade is refused without a word, a plain request is told. */
async function refused(socket: WebSocket, http: Http, path: string): Promise<never> {
  await once(socket, 'unexpected-response')
  await http.send('GET', path)
  throw new VivariumError(
    'internal',
    `${http.base} opens no WebSocket: is there a proxy that does not let them through?`,
  )
}

async function* pieces(
  messages: AsyncIterable<unknown[]>,
  signal: AbortSignal | undefined,
): AsyncGenerator<ShellPiece> {
  for await (const [data, isBinary] of messages as AsyncIterable<[Buffer, boolean]>) {
    if (isBinary) {
      yield { kind: 'stdout', data }
      continue
    }
    const event = ShellEvent.parse(JSON.parse(data.toString()))
    if (event.type === 'problem') throw problemError(JSON.stringify(event.problem))
    if (event.type === 'stderr') yield { kind: 'stderr', data: Buffer.from(event.dataBase64, 'base64') }
    else return yield { kind: 'exit', exitCode: event.exitCode }
  }
  signal?.throwIfAborted()
  throw new VivariumError('guest_lost', 'The connection to the shell broke; its process has been hung up on.')
}

/** Resolves when the message is on its way, or will never be: the end of the output says why. */
function send(socket: WebSocket, message: string | Buffer): Promise<void> {
  return new Promise((resolve) => socket.send(message, () => resolve()))
}

function control(message: ShellControl): string {
  return JSON.stringify(message)
}
