import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { log, messageOf } from '../log.ts'
import type { Dial } from './dial.ts'
import { SessionWait } from './preamble.ts'

const FIRST_DELAY_MS = 20
const LAST_DELAY_MS = 1000
/** How long a session that the host has begun may take to come up before a stream rests all the same. */
const BEGINNING_MS = 2000
/** How long what was written may take to get through before a connection is cut. */
const FLUSH_MS = 2000

/** One stream to the host, kept up for as long as the agent runs: dials, waits for a session, serves it, dials again. */
export class KeptStream {
  readonly #name: string
  readonly #dial: Dial
  readonly #serve: (socket: Socket) => Promise<void>
  #socket: Socket | undefined
  /** While a connection waits for a session. */
  #wait: SessionWait | undefined
  /** Whether the next connection says nothing before it is spoken to. */
  #quiet = false
  #delayMs = FIRST_DELAY_MS
  #pause = new AbortController()
  #changed = Promise.withResolvers<void>()

  /** `serve` runs a session on a socket whose preamble is done, until it ends. */
  constructor(name: string, dial: Dial, serve: (socket: Socket) => Promise<void>) {
    this.#name = name
    this.#dial = dial
    this.#serve = serve
  }

  async run(): Promise<never> {
    let lastMessage = ''
    for (;;) {
      try {
        await this.#connectOnce()
        lastMessage = ''
      } catch (error) {
        // Said once, not at each of many attempts.
        if (messageOf(error) !== lastMessage) log(`${this.#name}: ${messageOf(error)}`)
        lastMessage = messageOf(error)
      }
      this.#socket?.destroy()
      this.#become(undefined, undefined)
      await sleep(this.#delayMs, undefined, { signal: this.#pause.signal }).catch(() => undefined)
      this.#delayMs = Math.min(LAST_DELAY_MS, this.#delayMs * 2)
    }
  }

  /**
   * Ends the session, once what was written is through, and waits in silence for the next on a new connection: resolves as soon
   * as it does. A stream that waits already, and that nobody has spoken to, is left as it is.
   */
  async rest(closed: AbortSignal): Promise<void> {
    const beginning = AbortSignal.any([closed, AbortSignal.timeout(BEGINNING_MS)])
    while (this.#wait?.spokenTo === true && !beginning.aborted) await this.#change(beginning)
    const wait = this.#wait
    if (wait !== undefined && !wait.spokenTo) return
    this.#quiet = true
    this.#hurry()
    const socket = this.#socket
    // Below HTTP/2, whose farewell would make the host end its connection, too.
    socket?.end()
    const cut = setTimeout(() => socket?.destroy(), FLUSH_MS)
    socket?.once('close', () => clearTimeout(cut))
    while ((this.#wait === undefined || this.#wait === wait) && !closed.aborted) await this.#change(closed)
  }

  /** Ends the silence: a host that does not know that its old session is over learns of it. */
  speak(): void {
    this.#quiet = false
    this.#wait?.speak()
  }

  async #connectOnce(): Promise<void> {
    const socket = await this.#dial()
    const wait = new SessionWait(socket, { quiet: this.#quiet })
    this.#become(socket, wait)
    await wait.begun
    this.#quiet = false
    this.#delayMs = FIRST_DELAY_MS
    this.#become(socket, undefined)
    await this.#serve(socket)
  }

  #become(socket: Socket | undefined, wait: SessionWait | undefined): void {
    this.#socket = socket
    this.#wait = wait
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }

  /** Resolves at the next change of state, or when `signal` is aborted. */
  async #change(signal: AbortSignal): Promise<void> {
    const over = new AbortController()
    const aborted = once(signal, 'abort', { signal: over.signal }).catch(() => undefined)
    await Promise.race([this.#changed.promise, aborted])
    over.abort()
  }

  /** The next attempt follows this one at once. */
  #hurry(): void {
    this.#delayMs = FIRST_DELAY_MS
    this.#pause.abort()
    this.#pause = new AbortController()
  }
}
