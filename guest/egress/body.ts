import type { IncomingMessage } from 'node:http'
import type { ClientHttp2Stream } from 'node:http2'

/** Of a longer body the beginning is not kept, so that it can be sent only once. Most prompts are shorter. */
const MAX_KEPT_BYTES = 1024 * 1024

/** A program's request body on its way out. As long as not all of it has been sent on, its beginning is kept for a second attempt. */
export class Body {
  readonly #source: IncomingMessage
  #kept: Buffer[] | undefined = []
  #keptBytes = 0
  #isSent = false

  constructor(source: IncomingMessage) {
    this.#source = source
  }

  /** Whether nobody can have all of it yet, and it can be sent again from its beginning. */
  get canBeRepeated(): boolean {
    return !this.#isSent && this.#kept !== undefined
  }

  /** Sends all of it, what was sent before included. Ends with the stream, and leaves the source as it is. */
  send(stream: ClientHttp2Stream): void {
    const source = this.#source
    const onData = (chunk: Buffer) => {
      this.#keep(chunk)
      if (!stream.write(chunk)) source.pause()
    }
    const onDrain = () => source.resume()
    const onEnd = () => {
      this.#isSent = true
      this.#kept = undefined
      stream.end()
    }
    for (const chunk of this.#kept ?? []) stream.write(chunk)
    stream.on('drain', onDrain)
    source.on('data', onData).once('end', onEnd)
    if (!stream.writableNeedDrain) source.resume()
    stream.once('close', () => source.off('data', onData).off('end', onEnd).pause())
  }

  #keep(chunk: Buffer): void {
    this.#keptBytes += chunk.length
    if (this.#keptBytes <= MAX_KEPT_BYTES) this.#kept?.push(chunk)
    else this.#kept = undefined
  }
}
