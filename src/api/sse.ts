import { toProblem, type VivariumError } from '../contracts/errors.ts'

/** One message: `data` is sent as JSON, `json` is that already. */
export type SseEvent = { event?: string; id?: number } & ({ data: unknown } | { json: Buffer })

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
      controller.enqueue(Buffer.from('retry: 1000\n\n'))
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

function format({ event, id, ...rest }: SseEvent): Buffer {
  const head = `${event === undefined ? '' : `event: ${event}\n`}${id === undefined ? '' : `id: ${id}\n`}data: `
  const json = 'json' in rest ? rest.json : Buffer.from(JSON.stringify(rest.data))
  return Buffer.concat([Buffer.from(head), json, MESSAGE_END])
}

/** Whether a request prefers a stream to one JSON answer. */
export function wantsSse(accept: string | undefined): boolean {
  return accept !== undefined && accept.includes('text/event-stream')
}
