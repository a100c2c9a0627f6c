import type { TaskEvent } from '../../src/contracts/event.ts'
import { isFinal } from './status.ts'

/** The part of a WebSocket that is used here. */
export interface Socket extends EventTarget {
  close(): void
}

/**
 * How a stream is doing. `lost`: the connection is gone and will be tried again at `retryAt` (ms since the epoch).
 * `ended`: the task's last event has been seen.
 */
export type StreamState =
  | { name: 'connecting' }
  | { name: 'live' }
  | { name: 'lost'; attempts: number; retryAt: number }
  | { name: 'ended' }

export interface StreamOptions {
  /** Address of the stream from a sequence number on. */
  url: (from: number) => string
  /** Takes new events, in order, each once; called at most once a frame. */
  onEvents: (events: TaskEvent[]) => void
  onState: (state: StreamState) => void
  connect: (url: string) => Socket
  /** Calls back when the next frame is drawn. */
  nextFrame: (callback: () => void) => void
}

export interface Stream {
  /** Tries again now instead of when the wait is over. */
  retry(): void
  close(): void
}

/** So many events in one frame are history being caught up with: to draw every frame would cost more than it shows. */
const CATCH_UP_EVENTS = 20
const CATCH_UP_MS = 250

const FIRST_RETRY_MS = 500
const LONGEST_RETRY_MS = 15_000

/** How long to wait before the attempt after `attempts` failed ones. */
export function retryDelay(attempts: number): number {
  return Math.min(FIRST_RETRY_MS * 2 ** Math.min(attempts, 10), LONGEST_RETRY_MS)
}

/** A message of the stream as an event, or undefined when it is none. */
export function parseEvent(data: unknown): TaskEvent | undefined {
  if (typeof data !== 'string') return undefined
  try {
    const value: unknown = JSON.parse(data)
    const isEvent =
      typeof value === 'object' &&
      value !== null &&
      'seq' in value &&
      Number.isSafeInteger(value.seq) &&
      'type' in value &&
      typeof value.type === 'string'
    return isEvent ? (value as TaskEvent) : undefined
  } catch {
    // Not JSON: not an event either.
    return undefined
  }
}

/**
 * Follows a task's events from the first one on. A lost connection is taken up again behind the last event seen, with
 * growing waits; whatever the server repeats is dropped, so no event is given twice. Ends by itself after the final status.
 */
export function followTask(options: StreamOptions): Stream {
  let socket: Socket | undefined
  /** Aborted when the socket is given up: its last messages would otherwise overtake those of the next one. */
  let listening = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  let lastSeq = 0
  let attempts = 0
  let finished = false
  let pending: TaskEvent[] = []
  let catchingUp = false
  let closed = false

  const flush = () => {
    if (closed || pending.length === 0) return
    const events = pending
    pending = []
    catchingUp = events.length >= CATCH_UP_EVENTS
    options.onEvents(events)
  }

  const schedule = () => {
    if (catchingUp) setTimeout(() => options.nextFrame(flush), CATCH_UP_MS)
    else options.nextFrame(flush)
  }

  const take = (event: TaskEvent) => {
    if (event.seq <= lastSeq) return
    lastSeq = event.seq
    attempts = 0
    if (event.type === 'status' && isFinal(event.status)) finished = true
    if (pending.push(event) === 1) schedule()
  }

  const open = () => {
    clearTimeout(timer)
    timer = undefined
    options.onState({ name: 'connecting' })
    listening = new AbortController()
    const { signal } = listening
    socket = options.connect(options.url(lastSeq + 1))
    socket.addEventListener('open', () => options.onState({ name: 'live' }), { signal })
    socket.addEventListener(
      'message',
      (message) => {
        const event = parseEvent('data' in message ? message.data : undefined)
        if (event) take(event)
      },
      { signal },
    )
    socket.addEventListener('close', lose, { signal })
  }

  const lose = () => {
    listening.abort()
    if (finished) return options.onState({ name: 'ended' })
    const delay = retryDelay(attempts++)
    options.onState({ name: 'lost', attempts, retryAt: Date.now() + delay })
    timer = setTimeout(open, delay)
  }

  open()
  return {
    retry: () => {
      if (timer) open()
    },
    close: () => {
      closed = true
      clearTimeout(timer)
      listening.abort()
      socket?.close()
    },
  }
}
