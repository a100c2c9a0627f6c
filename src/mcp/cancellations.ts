/** A call's ear for its cancellation; disposed when the call ends. */
export interface Cancellation extends Disposable {
  signal: AbortSignal
}

/** Calls under way that can be cancelled by a message on another connection, by session and request id. */
export class Cancellations {
  readonly #calls = new Map<string, AbortController>()

  listen(session: string, requestId: string | number): Cancellation {
    const key = keyOf(session, requestId)
    const controller = new AbortController()
    this.#calls.set(key, controller)
    return {
      signal: controller.signal,
      [Symbol.dispose]: () => {
        if (this.#calls.get(key) === controller) this.#calls.delete(key)
      },
    }
  }

  cancel(session: string, requestId: string | number): void {
    this.#calls.get(keyOf(session, requestId))?.abort()
  }
}

/** Request ids 1 and "1" are different. */
function keyOf(session: string, requestId: string | number): string {
  return JSON.stringify([session, requestId])
}
