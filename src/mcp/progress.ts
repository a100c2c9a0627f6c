import type { ServerContext } from '@modelcontextprotocol/server'

/** News come faster than anybody reads them; what comes within this many ms of the last message waits for the next beat. */
const MIN_GAP_MS = 250

const MAX_CHARS = 200

/**
 * Progress notifications of one call: each piece of news at once, and the last one again every `beatMs`, so that a client
 * never takes a long silence for death. Sends nothing where the client did not ask for progress.
 */
export class Progress implements AsyncDisposable {
  readonly #context: ServerContext
  readonly #beat: NodeJS.Timeout
  readonly #startedAt = performance.now()
  #count = 0
  #lastSentAt = Number.NEGATIVE_INFINITY
  #latest: string | undefined
  /** Notifications leave in order and before the answer. */
  #sent = Promise.resolve()

  constructor(context: ServerContext, beatMs: number) {
    this.#context = context
    this.#beat = setInterval(() => this.#repeat(), beatMs)
  }

  /** Tells the client what is going on now, in one line. */
  say(message: string): void {
    const line = message.replaceAll(/\s+/g, ' ').trim()
    this.#latest = line.length > MAX_CHARS ? `${line.slice(0, MAX_CHARS - 1)}…` : line
    if (performance.now() - this.#lastSentAt >= MIN_GAP_MS) this.#send(this.#latest)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#beat)
    await this.#sent
  }

  #repeat(): void {
    // The first message is the tool's own: it names the task.
    if (this.#latest === undefined) return
    const seconds = Math.round((performance.now() - this.#startedAt) / 1000)
    this.#send(`${this.#latest} (${seconds} s)`)
  }

  #send(message: string): void {
    const progressToken = this.#context.mcpReq._meta?.progressToken
    if (progressToken === undefined) return
    this.#count += 1
    this.#lastSentAt = performance.now()
    const params = { progressToken, progress: this.#count, message }
    this.#sent = this.#sent
      .then(() => this.#context.mcpReq.notify({ method: 'notifications/progress', params }))
      .catch(() => undefined) // the connection is gone: the call's signal says so
  }
}
