import type { Duplex } from 'node:stream'

export type EgressTaker = (socket: Duplex) => void

/**
 * Where the egress connections of a machine's guest go: nowhere while nobody uses the machine, then to its use. A guest may
 * dial long before there is one; its connection is greeted then, so that no time is lost on that later, and waits unread, which
 * costs what the kernel buffers.
 */
export class EgressPort {
  readonly #greet: (socket: Duplex) => Promise<void>
  #current: Duplex | undefined
  /** Settles when the present connection may be given away. */
  #greeted: Promise<void> | undefined
  #take: EgressTaker | undefined

  /** `greet` does on a connection what can be done before it has a use; one that fails at it is destroyed by it. */
  constructor(greet: (socket: Duplex) => Promise<void>) {
    this.#greet = greet
  }

  /** Takes a new connection of the guest; the newest one counts. */
  accept(socket: Duplex): void {
    this.#current = socket
    this.#greeted = undefined
    if (this.#take !== undefined) this.#take(socket)
    // One that could not be greeted is gone, and the guest dials anew.
    else this.#greeted = this.#greet(socket).catch(() => {})
  }

  /**
   * Gives this and every later connection to `take`, or lets them wait where there is none. One that another use had is closed:
   * the guest dials anew. Returns what took them before.
   */
  connect(take: EgressTaker | undefined): EgressTaker | undefined {
    const before = this.#take
    this.#take = take
    if (before !== undefined) this.#current?.destroy()
    else if (take !== undefined) void this.#handOver(take)
    return before
  }

  /** Gives the connection that waits to its first use. */
  async #handOver(take: EgressTaker): Promise<void> {
    const socket = this.#current
    await this.#greeted
    if (socket !== undefined && !socket.destroyed && socket === this.#current && take === this.#take) take(socket)
  }
}
