import type { Socket } from 'node:net'
import { FLUSH_BYTES, MAX_PREAMBLE_BYTES } from '../../src/link/constants.ts'
import { preambleLine, PreambleScanner } from '../../src/link/scanner.ts'

/**
 * The guest's end of the preamble on a new connection (see `src/link/protocol.ts`): waits, as long as the connection lives,
 * until the host has begun a session.
 */
export class SessionWait {
  /** Resolves with the socket paused and whatever followed the preamble back in it. */
  readonly begun: Promise<void>
  readonly #socket: Socket
  #nonce: string | undefined
  #over = false

  /** `quiet`: says nothing before the host does, as a parked guest must. */
  constructor(socket: Socket, { quiet }: { quiet: boolean }) {
    this.#socket = socket
    this.begun = this.#listen().finally(() => (this.#over = true))
    if (!quiet) this.speak()
  }

  /** Whether the host has said hello on this connection. */
  get spokenTo(): boolean {
    return this.#nonce !== undefined
  }

  /** Shows a host that takes its old session for alive that it is not. Nothing to one that has begun a new one. */
  speak(): void {
    if (!this.#over && !this.#socket.destroyed) this.#socket.write(Buffer.alloc(FLUSH_BYTES, 0x0a))
  }

  #listen(): Promise<void> {
    const socket = this.#socket
    const scanner = new PreambleScanner()
    return new Promise((resolve, reject) => {
      const onClose = () => reject(new Error('connection closed before a session began'))
      const onData = (chunk: Buffer) => {
        scanner.push(chunk)
        for (let line = scanner.next(); line !== undefined; line = scanner.next()) {
          if (line.verb === 'hello') {
            this.#nonce = line.nonce
            socket.write(preambleLine('echo', line.nonce))
          } else if (line.verb === 'go' && line.nonce === this.#nonce) {
            this.#over = true
            socket.off('data', onData)
            socket.pause()
            if (scanner.rest().length > 0) socket.unshift(scanner.rest())
            // HTTP/2 must not find a write under way: Node ends the process for it.
            socket.write(preambleLine('ready', line.nonce), (error) => {
              socket.off('close', onClose)
              if (error === null || error === undefined) resolve()
              else reject(error)
            })
            return
          }
        }
        if (scanner.discarded > MAX_PREAMBLE_BYTES) socket.destroy(new Error('no preamble in what the host sends'))
      }
      // The error listener stays: 'close' follows, and a broken connection must not end the agent.
      socket.on('error', () => undefined)
      if (socket.destroyed) return onClose()
      socket.on('close', onClose).on('data', onData)
    })
  }
}
