import { z } from 'zod'

/** A failed model request, as the task reports it. */
export interface ModelError {
  status: number
  type: string
  message: string
}

const MAX_BYTES = 64 * 1024

const Body = z.object({ error: z.object({ type: z.string(), message: z.string() }) })

/** Reads the error out of an answer while its bytes pass by. */
export class ErrorReader {
  readonly #status: number
  #text: Buffer[] = []
  #bytes = 0

  constructor(status: number) {
    this.#status = status
  }

  push(chunk: Buffer): void {
    if (this.#bytes < MAX_BYTES) this.#text.push(chunk)
    this.#bytes += chunk.length
  }

  /** The error, or what can be said without a readable body. */
  error(): ModelError {
    const unreadable = { status: this.#status, type: 'api_error', message: `The model's API answered ${this.#status}.` }
    try {
      const { error } = Body.parse(JSON.parse(Buffer.concat(this.#text).toString()))
      return { status: this.#status, type: error.type.slice(0, 100), message: error.message.slice(0, 1000) }
    } catch {
      // Proxies in between answer with pages of their own.
      return unreadable
    }
  }
}
