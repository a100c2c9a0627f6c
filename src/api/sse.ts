import { toProblem, type VivariumError } from '../contracts/errors.ts'

/** One message: `data` is sent as JSON. */
export interface SseEvent {
  event?: string
  id?: number
  data: unknown
}

export interface SseOptions {
  /** Between two signs of life while there is nothing to say, in ms. */
  heartbeatMs: number
  /** Aborted when the reader leaves: it must end `events`. */
  reader: AbortController
  /** What to say of an error in the middle: the status line has long been sent. */
  onError(thrown: unknown): VivariumError
}

const encoder = new TextEncoder()

/** A text/event-stream answer. Takes the next event only when the reader has room for it. */
export function sseResponse(events: AsyncIterable<SseEvent>, options: SseOptions): Response {
  const iterator = events[Symbol.asyncIterator]()
  let pending: Promise<IteratorResult<SseEvent>> | undefined

  async function next(): Promise<{ text: string; done: boolean }> {
    pending ??= iterator.next()
    const result = await orHeartbeat(pending, options.heartbeatMs)
    if (result === 'heartbeat') return { text: ': heartbeat\n\n', done: false }
    pending = undefined
    return result.done === true ? { text: '', done: true } : { text: format(result.value), done: false }
  }

  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      // The first byte leaves at once: clients and proxies give up on a server that stays silent.
      controller.enqueue(encoder.encode('retry: 1000\n\n'))
    },
    async pull(controller) {
      try {
        const { text, done } = await next()
        if (done) controller.close()
        else controller.enqueue(encoder.encode(text))
      } catch (thrown) {
        if (options.reader.signal.aborted) return
        const data = toProblem(options.onError(thrown))
        controller.enqueue(encoder.encode(format({ event: 'problem', data })))
        controller.close()
      }
    },
    cancel() {
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

async function orHeartbeat<Value>(pending: Promise<Value>, ms: number): Promise<Value | 'heartbeat'> {
  const beat = Promise.withResolvers<'heartbeat'>()
  const timer = setTimeout(() => beat.resolve('heartbeat'), ms)
  try {
    return await Promise.race([pending, beat.promise])
  } finally {
    clearTimeout(timer)
  }
}

function format({ event, id, data }: SseEvent): string {
  const head = `${event === undefined ? '' : `event: ${event}\n`}${id === undefined ? '' : `id: ${id}\n`}`
  return `${head}data: ${JSON.stringify(data)}\n\n`
}

/** Whether a request prefers a stream to one JSON answer. */
export function wantsSse(accept: string | undefined): boolean {
  return accept !== undefined && accept.includes('text/event-stream')
}
