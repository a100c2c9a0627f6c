import { toProblem, type VivariumError } from '../contracts/errors.ts'

/** One message: `data` is sent as JSON, `json` is that already. */
type SseMessage = { event?: string; id?: number } & ({ data: unknown } | { json: Buffer })

/** The last word of a stream that breaks off: its reader is to come back, with the id of the last message it has. */
interface SseComeBack {
  comeBack: string
}

export type SseEvent = SseMessage | SseComeBack

/** How long clients wait before they come back, in ms. */
const RETRY_MS = 1000

export interface SseOptions {
  /** Between two signs of life, in ms. */
  heartbeatMs: number
  /** Aborted when the reader leaves: it must end `events`. */
  reader: AbortController
  /** What to say of an error in the middle: the status line has long been sent. */
  onError(thrown: unknown): VivariumError
}

const HEARTBEAT = Buffer.from(': heartbeat\n\n')
const MESSAGE_END = Buffer.from('\n\n')

/** A text/event-stream answer. Takes the next event only when the reader has room for it. */
export function sseResponse(events: AsyncIterable<SseEvent>, options: SseOptions): Response {
  const iterator = events[Symbol.asyncIterator]()
  let heartbeat: NodeJS.Timeout | undefined

  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      // The first byte leaves at once: clients and proxies give up on a server that stays silent.
      controller.enqueue(Buffer.from(`retry: ${RETRY_MS}\n\n`))
      heartbeat = setInterval(() => {
        // A reader that has not taken what was said before has no room for signs of life.
        if ((controller.desiredSize ?? 0) > 0) controller.enqueue(HEARTBEAT)
      }, options.heartbeatMs)
    },
    async pull(controller) {
      try {
        const result = await iterator.next()
        if (options.reader.signal.aborted) return
        if (result.done !== true) return controller.enqueue(format(result.value))
      } catch (thrown) {
        if (options.reader.signal.aborted) return
        controller.enqueue(format({ event: 'problem', data: toProblem(options.onError(thrown)) }))
      }
      clearInterval(heartbeat)
      controller.close()
    },
    cancel() {
      clearInterval(heartbeat)
      options.reader.abort()
      iterator.return?.().catch(() => undefined) // nobody is left to be told
    },
  })
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    },
  })
}

/** The same, until `ending` aborts: it then rejects with that reason, for what can't be taken up again. */
export async function* untilEnding<Value>(source: AsyncIterable<Value>, ending: AbortSignal): AsyncGenerator<Value> {
  const ended = Promise.withResolvers<never>()
  ended.promise.catch(() => undefined) // heard of only where somebody waits for the next value
  const end = () => ended.reject(ending.reason)
  ending.addEventListener('abort', end)
  if (ending.aborted) end()
  const iterator = source[Symbol.asyncIterator]()
  try {
    for (;;) {
      const result = await Promise.race([iterator.next(), ended.promise])
      if (result.done === true) return
      yield result.value
    }
  } finally {
    ending.removeEventListener('abort', end)
    void iterator.return?.().catch(() => undefined) // nobody is left to be told
  }
}

function format(message: SseEvent): Buffer {
  if ('comeBack' in message) return Buffer.from(`retry: ${RETRY_MS}\n: ${message.comeBack}\n\n`)
  const { event, id, ...rest } = message
  const head = `${event === undefined ? '' : `event: ${event}\n`}${id === undefined ? '' : `id: ${id}\n`}data: `
  const json = 'json' in rest ? rest.json : Buffer.from(JSON.stringify(rest.data))
  return Buffer.concat([Buffer.from(head), json, MESSAGE_END])
}

/** Whether a request prefers a stream to one JSON answer. */
export function wantsSse(accept: string | undefined): boolean {
  return accept !== undefined && accept.includes('text/event-stream')
}
