import { setTimeout as delay } from 'node:timers/promises'
import { type ErrorCode, VivariumError } from '../contracts/errors.ts'
import { TaskEvent } from '../contracts/event.ts'
import { type Http, problemError, segment, unreachable } from './http.ts'
import { sseMessages } from './sse.ts'

/** Pauses before each new attempt, in ms. An event that arrives starts the count anew; after the last one we give up. */
const BACKOFF_MS = [100, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000]

/** The server sends a heartbeat every 15 s: this long without a byte means that the connection is dead, in ms. */
const SILENCE_MS = 60_000

/** Codes of a server that is away, or about to be: it may be there again a moment later. */
const WILL_PASS: ReadonlySet<ErrorCode> = new Set(['setup_required', 'shutting_down'])

export interface FollowOptions {
  from: number
  signal: AbortSignal | undefined
  backoffMs?: number[]
}

/** A task's events over SSE, resumed where a connection broke. See `TasksClient.follow`. */
export async function* followTask(http: Http, id: string, options: FollowOptions): AsyncGenerator<TaskEvent> {
  const backoff = options.backoffMs ?? BACKOFF_MS
  let next = options.from
  for (let attempt = 0; ; attempt++) {
    let broken: unknown = new Error('the connection ended early')
    try {
      for await (const event of oneConnection(http, id, next, options.signal)) {
        if (event === 'end') return
        attempt = 0
        next = event.seq + 1
        yield event
      }
    } catch (error) {
      options.signal?.throwIfAborted()
      if (error instanceof VivariumError && !WILL_PASS.has(error.code)) throw error
      broken = error
    }
    options.signal?.throwIfAborted()
    const pause = backoff[attempt]
    if (pause === undefined) throw unreachable(http.base, broken)
    await delay(pause, undefined, options.signal === undefined ? {} : { signal: options.signal })
  }
}

async function* oneConnection(
  http: Http,
  id: string,
  from: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<TaskEvent | 'end'> {
  const silence = new AbortController()
  const response = await http.send('GET', `/tasks/${segment(id)}/events`, {
    // `Last-Event-ID: N` goes on at N + 1, and is what every SSE client on earth sends.
    headers: { accept: 'text/event-stream', ...(from > 1 ? { 'last-event-id': String(from - 1) } : {}) },
    signal: signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]),
  })
  if (response.body === null) return
  // Only the wait for bytes is watched: a consumer may take its time over an event.
  for await (const message of sseMessages(watched(response.body, silence))) {
    if (message.event === 'comment') continue
    if (message.event === 'problem') throw problemError(message.data)
    if (message.event === 'end') {
      yield 'end'
      return
    }
    yield TaskEvent.parse(JSON.parse(message.data))
  }
}

async function* watched(body: ReadableStream<Uint8Array>, silence: AbortController): AsyncGenerator<Uint8Array> {
  const reader = body.getReader()
  try {
    for (;;) {
      const timer = setTimeout(() => silence.abort(new Error(`no sign of life for ${SILENCE_MS} ms`)), SILENCE_MS)
      const { done, value } = await reader.read().finally(() => clearTimeout(timer))
      if (done) return
      yield value
    }
  } finally {
    await reader.cancel().catch(() => undefined) // already broken: nothing is left to cancel
  }
}
