import type { Duplex } from 'node:stream'

/**
 * Where the egress connections of a machine's guest go: nowhere while nobody uses the machine, then to its use. A guest may
 * dial long before there is one; its connection waits unread, which costs what the kernel buffers.
 */
export class EgressPort {
  #current: Duplex | undefined
  #take: ((socket: Duplex) => void) | undefined

  /** Takes a new connection of the guest; the newest one counts. */
  accept(socket: Duplex): void {
    this.#current = socket
    this.#take?.(socket)
  }

  /** Gives this and every later connection to `take`. One that another use had is closed: the guest dials anew. */
  connect(take: (socket: Duplex) => void): void {
    const before = this.#take
    this.#take = take
    if (this.#current === undefined) return
    if (before === undefined) take(this.#current)
    else this.#current.destroy()
  }
}
