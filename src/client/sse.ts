/** One message of a text/event-stream. */
export interface SseMessage {
  event: string
  data: string
  id: string | undefined
}

/** A message beyond this is not ours: events hold at most a 32 MiB line, which base64 and JSON make longer. */
const MAX_MESSAGE_CHARS = 128 * 1024 * 1024

/**
 * The messages of a text/event-stream body (WHATWG HTML, 9.2.6), plus one with event `comment` for every comment line, so
 * that heartbeats count as signs of life. Ends with the body; leaving early cancels it.
 */
export async function* sseMessages(body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<SseMessage> {
  const message = new MessageBuilder()
  for await (const line of lines(body)) {
    if (line.startsWith(':')) yield { event: 'comment', data: line.slice(1).trim(), id: undefined }
    else if (line !== '') message.add(line)
    else if (message.hasData) yield message.take()
    else message.clear()
  }
}

class MessageBuilder {
  #event = 'message'
  #data: string[] = []
  #id: string | undefined

  get hasData(): boolean {
    return this.#data.length > 0
  }

  add(line: string): void {
    const colon = line.indexOf(':')
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') this.#event = value
    else if (field === 'data') this.#data.push(value)
    else if (field === 'id') this.#id = value
  }

  take(): SseMessage {
    const message = { event: this.#event, data: this.#data.join('\n'), id: this.#id }
    this.clear()
    return message
  }

  clear(): void {
    this.#event = 'message'
    this.#data = []
    this.#id = undefined
  }
}

async function* lines(body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  // Pieces of an unfinished line are joined once: `rest += chunk` and a search from its start would be quadratic.
  let pieces: string[] = []
  let length = 0
  for await (const chunk of body) {
    const parts = decoder.decode(chunk, { stream: true }).split('\n')
    for (const [index, part] of parts.entries()) {
      pieces.push(part)
      length += part.length
      if (length > MAX_MESSAGE_CHARS) throw new Error('a line of the event stream is too long')
      if (index === parts.length - 1) break
      yield pieces.join('').replace(/\r$/, '')
      pieces = []
      length = 0
    }
  }
}
