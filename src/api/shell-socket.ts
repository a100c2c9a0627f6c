import { on } from 'node:events'
import { WebSocket, type RawData } from 'ws'
import { toProblem, VivariumError } from '../contracts/errors.ts'
import { ShellControl, type ShellEvent } from '../contracts/shell.ts'
import type { Shell } from '../machines/types.ts'
import { CLOSE, HIGH_WATER_BYTES, reasonOf, send } from './websocket.ts'

/** Messages that may wait until the guest has taken those before; beyond it the client's connection is no longer read. */
const MAX_WAITING_MESSAGES = 16

export interface ShellSocketOptions {
  heartbeatMs: number
  /** Aborts when the server is about to go, and the shell with it. */
  ending: AbortSignal
  /** What to say of an error. */
  onError(thrown: unknown): VivariumError
}

/**
 * Connects a WebSocket and a shell: binary messages are bytes in both directions, text messages are ShellControl and
 * ShellEvent. Either side is read only as fast as the other takes it. Closes the socket after the exit, and the shell as soon as the
 * socket closes. Resolves when both are closed; never rejects.
 */
export async function serveShell(
  socket: WebSocket,
  open: (signal: AbortSignal) => Promise<Shell>,
  { heartbeatMs, ending, onError }: ShellSocketOptions,
): Promise<void> {
  const gone = new AbortController()
  const hangUp = () => socket.close(CLOSE.restart, 'the server restarts')
  ending.addEventListener('abort', hangUp)
  socket.once('close', () => {
    ending.removeEventListener('abort', hangUp)
    gone.abort()
  })
  if (socket.readyState !== WebSocket.OPEN) return
  // From the start: what comes before the shell is there waits for it.
  const messages = on(socket, 'message', { close: ['close'], highWaterMark: MAX_WAITING_MESSAGES })
  const heartbeat = setInterval(() => socket.ping(), heartbeatMs)
  try {
    const exitCode = await talk(socket, messages, await open(gone.signal))
    socket.close(CLOSE.end, `exit ${exitCode}`)
  } catch (thrown) {
    if (socket.readyState !== WebSocket.OPEN) return
    const error = onError(thrown)
    socket.send(text({ type: 'problem', problem: toProblem(error) }))
    socket.close(CLOSE.error, reasonOf(error))
  } finally {
    clearInterval(heartbeat)
    await messages.return?.()
    // A client that sent more than was taken would not hear of the end.
    socket.resume()
  }
}

/** Carries bytes both ways until the process ends or either side fails; the shell is closed then. Resolves with the exit code. */
async function talk(socket: WebSocket, messages: AsyncIterable<unknown[]>, opened: Shell): Promise<number> {
  await using shell = opened
  // Both ends of the race are heard of: the process ends by its output, a client's mistake or absence by its messages.
  return await Promise.race([show(socket, shell), take(messages, shell)])
}

/** What the process says; resolves with its exit code. */
async function show(socket: WebSocket, shell: Shell): Promise<number> {
  for await (const piece of shell.output) {
    if (piece.kind === 'exit') {
      await send(socket, text({ type: 'exit', exitCode: piece.exitCode }))
      return piece.exitCode
    }
    const sent = send(
      socket,
      piece.kind === 'stdout' ? piece.data : text({ type: 'stderr', dataBase64: piece.data.toString('base64') }),
    )
    if (socket.bufferedAmount > HIGH_WATER_BYTES) await sent
    else sent.catch(() => undefined) // the socket closed, which ends the messages
  }
  throw new VivariumError('internal', 'The output of a shell ended without its exit.')
}

/** What the client says. Rejects when it leaves or breaks the rules. */
async function take(messages: AsyncIterable<unknown[]>, shell: Shell): Promise<never> {
  for await (const [data, isBinary] of messages as AsyncIterable<[RawData, boolean]>) {
    const bytes = Buffer.isBuffer(data) ? data : Buffer.concat(Array.isArray(data) ? data : [Buffer.from(data)])
    if (isBinary) {
      if (bytes.length > 0) await shell.write(bytes)
      continue
    }
    const control = parseControl(bytes.toString())
    if (control.type === 'end') await shell.end()
    else await shell.resize(control)
  }
  throw new VivariumError('cancelled', 'The client left.')
}

function parseControl(message: string): ShellControl {
  const parsed = ShellControl.safeParse(parseJson(message))
  if (parsed.success) return parsed.data
  const rule =
    'A text message must be {"type":"resize","rows":N,"cols":N} or {"type":"end"}; what is typed is sent as binary.'
  throw new VivariumError('invalid_request', rule)
}

function parseJson(message: string): unknown {
  try {
    return JSON.parse(message)
  } catch {
    return undefined // the schema refuses it
  }
}

function text(event: ShellEvent): string {
  return JSON.stringify(event)
}
