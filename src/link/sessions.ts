import type { Duplex } from 'node:stream'
import { VivariumError } from '../contracts/errors.ts'
import { abortError, guestLost, misbehaved, quoted } from './errors.ts'
import type { LinkSettings } from './options.ts'
import { openSession, type Session, type SessionEnd } from './session.ts'

/** So many breaches of the protocol within `sessionMs` × 3, and the link is given up: a guest that restarts makes one. */
const MAX_VIOLATIONS = 5

/**
 * The sessions of one machine, one after the other: takes connections, of which the newest counts, hands out the session
 * that is up, and gives up when none comes in time or the guest keeps breaking the protocol. While silent, it holds what
 * connects and waits for nothing.
 */
export class Sessions {
  readonly lost: Promise<string>
  readonly #settings: LinkSettings
  #current: Session | undefined
  #attempt = new AbortController()
  #violations: number[] = []
  #deadline: NodeJS.Timeout
  #given: VivariumError | undefined
  #silent = false
  /** The guest's processors stand still. */
  #isHalted = false
  /** While silent: the session before, for its connection. */
  #retired: Session | undefined
  /** While silent: the newest connection. Nobody reads it, so that it costs what the kernel buffers, however much it brings. */
  #held: Duplex | undefined
  readonly #runs = new Set<Promise<void>>()
  readonly #waiting = new Set<() => void>()
  #resolveLost: (reason: string) => void = () => undefined

  constructor(settings: LinkSettings) {
    this.#settings = settings
    this.lost = new Promise((resolve) => (this.#resolveLost = resolve))
    this.#deadline = this.#expectSession(settings.deadlines.firstSessionMs)
  }

  /** Takes a connection of the guest; it replaces the one before. */
  accept(socket: Duplex): void {
    // A socket whose error nobody hears would end the process.
    socket.on('error', () => undefined)
    if (this.#given !== undefined) {
      socket.destroy()
      return
    }
    if (this.#silent) {
      this.#dropHeld('The guest opened a new connection.')
      this.#held = socket
      return
    }
    this.#begin(socket)
  }

  /** Whether nothing is said to the guest, and nothing expected of it. */
  get silent(): boolean {
    return this.#silent
  }

  /** Ends the present session for those who use it, and says nothing more until `wake`. */
  fallSilent(): void {
    if (this.#silent || this.#given !== undefined) return
    this.#silent = true
    clearTimeout(this.#deadline)
    // A session that is only just beginning: its guest dials anew. One that is up is beyond this.
    this.#attempt.abort()
    this.#retired = this.#current
    this.#current = undefined
    this.#retired?.retire('The guest is parked.')
  }

  /** While a guest is halted it is neither silent nor late. */
  halt(isHalted: boolean): void {
    this.#isHalted = isHalted
  }

  /** Begins a session on the connection that is held, or else on the next. */
  wake(): void {
    if (!this.#silent || this.#given !== undefined) return
    this.#silent = false
    this.#deadline = this.#expectSession(this.#settings.deadlines.sessionMs)
    const held = this.#held
    this.#held = undefined
    this.#dropHeld('The guest was woken.')
    if (held !== undefined) this.#begin(held)
  }

  /** The session that is up, or the next one. Rejects when the link is given up or `signal` is aborted. */
  async current(signal?: AbortSignal): Promise<Session> {
    for (;;) {
      if (signal?.aborted === true) throw abortError(signal)
      if (this.#given !== undefined) throw this.#given
      if (this.#current !== undefined) return this.#current
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#waiting.delete(wake)
          signal?.removeEventListener('abort', wake)
          resolve()
        }
        this.#waiting.add(wake)
        signal?.addEventListener('abort', wake)
      })
    }
  }

  /** Gives the link up: every call, now and later, rejects with `error`. */
  giveUp(error: VivariumError): void {
    if (this.#given !== undefined) return
    this.#given = error
    clearTimeout(this.#deadline)
    this.#attempt.abort()
    this.#current?.close(error.message)
    this.#dropHeld(error.message)
    this.#resumeWaiting()
    this.#resolveLost(error.message)
  }

  /** Resolves when no connection is left, after `giveUp`. */
  async ended(): Promise<void> {
    await Promise.all(this.#runs)
  }

  #begin(socket: Duplex): void {
    this.#attempt.abort()
    this.#attempt = new AbortController()
    this.#current?.close('The guest opened a new connection.')
    const run = this.#run(socket, this.#attempt.signal).finally(() => this.#runs.delete(run))
    this.#runs.add(run)
  }

  #dropHeld(reason: string): void {
    this.#held?.destroy()
    this.#held = undefined
    this.#retired?.close(reason)
    this.#retired = undefined
  }

  /** One connection, from its preamble to its end. Never rejects. */
  async #run(socket: Duplex, signal: AbortSignal): Promise<void> {
    try {
      const session = await openSession(socket, this.#settings, () => this.#isHalted, signal)
      if (signal.aborted) return session.close('The guest opened a new connection.')
      clearTimeout(this.#deadline)
      this.#current = session
      this.#resumeWaiting()
      const end = await session.ended
      if (this.#current === session) {
        this.#current = undefined
        clearTimeout(this.#deadline)
        if (this.#given === undefined) this.#deadline = this.#expectSession(this.#settings.deadlines.sessionMs)
      }
      this.#note(end)
      await session.closed
    } catch (error) {
      socket.destroy()
      if (!signal.aborted) this.#note(asEnd(error))
    }
  }

  #note({ reason, violation }: SessionEnd): void {
    this.#settings.log(`session ended: ${quoted(reason)}`)
    if (!violation) return
    const now = performance.now()
    const window = this.#settings.deadlines.sessionMs * 3
    this.#violations = [...this.#violations.filter((at) => now - at < window), now]
    if (this.#violations.length < MAX_VIOLATIONS) return
    this.giveUp(
      misbehaved(`The guest of machine ${this.#settings.name} keeps breaking the link's protocol: ${quoted(reason)}`),
    )
  }

  #expectSession(ms: number): NodeJS.Timeout {
    const { name } = this.#settings
    return setTimeout(() => {
      if (this.#isHalted) this.#deadline = this.#expectSession(ms)
      else this.giveUp(guestLost(`The guest of machine ${name} did not answer for ${Math.round(ms / 100) / 10} s.`))
    }, ms)
  }

  #resumeWaiting(): void {
    for (const wake of this.#waiting) wake()
  }
}

function asEnd(error: unknown): SessionEnd {
  if (error instanceof VivariumError) return { reason: error.message, violation: error.code === 'guest_misbehaved' }
  if (error instanceof Error) return { reason: error.message, violation: true }
  return error as SessionEnd
}
