import { EventEmitter, once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { VivariumError } from '../../contracts/errors.ts'

/** The largest message we ask for is the console's ring buffer, 64 KiB in base64. A VMM that sends more was taken over. */
const MAX_LINE_BYTES = 1024 * 1024
const CONNECT_RETRY_MS = 10

/** QEMU answers at once, unless the host is under heavy load or QEMU was taken over. */
const ANSWER_DEADLINE_MS = 30_000

/** Commands without an answer; events make us ask, and a monitor that was taken over sends as many as it likes. */
const MAX_PENDING = 100

/** One line from QEMU: the greeting, the answer to a command, or an event (docs/interop/qmp-spec). */
const Message = z.object({
  id: z.int().optional(),
  return: z.unknown().optional(),
  error: z.object({ desc: z.string() }).optional(),
  event: z.string().optional(),
  data: z.record(z.string(), z.unknown()).optional(),
})

interface Pending {
  resolve: (value: unknown) => void
  reject: (error: Error) => void
}

/**
 * A QMP session: QEMU's monitor on a unix socket. Emits QEMU's events under their own names with their data, and `close`
 * once. What QEMU says is checked and capped: a guest that broke out of its VM speaks through this socket.
 */
export class Qmp extends EventEmitter {
  readonly #socket: Socket
  readonly #pending = new Map<number, Pending>()
  #nextId = 1
  #buffer = ''
  #closed = false

  private constructor(socket: Socket) {
    super()
    this.#socket = socket
    socket.setEncoding('utf8')
    socket.on('data', (text: string) => this.#read(text))
    socket.on('error', () => {}) // `close` follows and rejects what is pending
    socket.on('close', () => this.#end())
  }

  /** Connects, waiting for QEMU to make the socket, and leaves the negotiation mode. Rejects when `signal` aborts. */
  static async connect(path: string, signal: AbortSignal): Promise<Qmp> {
    for (;;) {
      const socket = connect(path)
      const stop = () => socket.destroy()
      try {
        await once(socket, 'connect', { signal })
        const qmp = new Qmp(socket)
        signal.addEventListener('abort', stop)
        await qmp.execute('qmp_capabilities')
        signal.throwIfAborted()
        return qmp
      } catch (error) {
        socket.destroy()
        signal.throwIfAborted()
        const { code } = error as NodeJS.ErrnoException
        if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error
        await sleep(CONNECT_RETRY_MS)
      } finally {
        signal.removeEventListener('abort', stop)
      }
    }
  }

  /**
   * Runs a command and resolves with what it returns; rejects with `engine_failed` when QEMU refuses, goes away, or has not
   * answered after `deadlineMs`.
   */
  async execute(
    command: string,
    args: Record<string, unknown> = {},
    deadlineMs = ANSWER_DEADLINE_MS,
  ): Promise<unknown> {
    if (this.#closed) throw new VivariumError('engine_failed', `QEMU is gone; it can't run ${command}.`)
    if (this.#pending.size >= MAX_PENDING) this.#socket.destroy()
    const id = this.#nextId++
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const late = () =>
      reject(new VivariumError('engine_failed', `QEMU did not answer ${command} in ${deadlineMs / 1000} s.`))
    const timer = setTimeout(late, deadlineMs).unref()
    this.#pending.set(id, { resolve, reject })
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#pending.delete(id)
    }
  }

  close(): void {
    this.#socket.destroy()
  }

  #read(text: string): void {
    const lines = (this.#buffer + text).split('\n')
    this.#buffer = lines.pop() ?? ''
    if (this.#buffer.length > MAX_LINE_BYTES) return void this.#socket.destroy()
    for (const line of lines) if (line.trim() !== '') this.#dispatch(line)
  }

  #dispatch(line: string): void {
    const message = Message.safeParse(parseJson(line)).data
    if (message === undefined) return void this.#socket.destroy()
    if (message.event !== undefined) {
      // Prefixed, so that no event of QEMU's can be one that EventEmitter gives a meaning, like `error`.
      this.emit(`qemu:${message.event}`, message.data ?? {})
      return
    }
    const pending = message.id === undefined ? undefined : this.#pending.get(message.id)
    if (message.id === undefined || pending === undefined) return // the greeting
    this.#pending.delete(message.id)
    if (message.error === undefined) pending.resolve(message.return)
    else pending.reject(new VivariumError('engine_failed', `QEMU refused: ${message.error.desc}`))
  }

  #end(): void {
    this.#closed = true
    for (const { reject } of this.#pending.values())
      reject(new VivariumError('engine_failed', 'QEMU ended before it answered.'))
    this.#pending.clear()
    this.emit('close')
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // refused by the schema
  }
}
