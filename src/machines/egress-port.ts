import type { Duplex } from 'node:stream'

export type EgressTaker = (socket: Duplex) => void

/**
 * Where the egress connections of a machine's guest go: nowhere while nobody uses the machine, then to its use. A guest may
 * dial long before there is one; its connection waits unread, which costs what the kernel buffers.
 */
export class EgressPort {
  #current: Duplex | undefined
  #take: EgressTaker | undefined

  /** Takes a new connection of the guest; the newest one counts. */
  accept(socket: Duplex): void {
    this.#current = socket
    this.#take?.(socket)
  }

  /**
   * Gives this and every later connection to `take`, or lets them wait where there is none. One that another use had is closed:
   * the guest dials anew. Returns what took them before.
   */
  connect(take: EgressTaker | undefined): EgressTaker | undefined {
    const before = this.#take
    this.#take = take
    if (before !== undefined) this.#current?.destroy()
    else if (this.#current !== undefined) take?.(this.#current)
    return before
  }
}
