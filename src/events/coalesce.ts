import type { NewEvent } from '../contracts/event.ts'
import type { EventWriter } from './types.ts'

export interface CoalescerOptions {
  /** Where events go, in the order of calls, e.g. `(events) => log.append(taskId, events)`. */
  append(events: NewEvent[]): Promise<unknown>
  /** Milliseconds that partial text waits for more. */
  windowMs?: number
  /** Partial text of this many characters waits no longer. */
  maxChars?: number
}

/**
 * Merges neighbouring `delta`s of the same kind and parent for about 50 ms, so that a model's tokens don't cost an event
 * each. Any other event takes the waiting text with it, before itself: the order stays.
 */
export function createDeltaCoalescer({ append, windowMs = 50, maxChars = 32_768 }: CoalescerOptions): EventWriter {
  /** Between calls: deltas only. */
  const waiting: NewEvent[] = []
  let timer: NodeJS.Timeout | undefined
  /** The append made by the timer; its failure is kept for the next caller, since nobody awaits it. */
  let background: Promise<void> = Promise.resolve()
  let failure: { error: unknown } | undefined

  const take = (count: number) => {
    clearTimeout(timer)
    timer = undefined
    return waiting.splice(0, count)
  }

  const appendInBackground = async () => {
    try {
      await append(take(waiting.length))
    } catch (error) {
      failure = { error }
    }
  }

  const startTimer = () => {
    timer ??= setTimeout(() => {
      background = appendInBackground()
    }, windowMs)
  }

  /** Rejects with what failed in the background, once. */
  const tellFailure = () => {
    const told = failure
    failure = undefined
    if (told !== undefined) throw told.error
  }

  /** Appends the first `count` of what waits; the call is made before anything is awaited, which keeps the order. */
  const handOn = async (count: number) => {
    const events = take(count)
    const appended = events.length > 0 ? append(events) : undefined
    if (waiting.length > 0) startTimer()
    await Promise.allSettled([background, appended])
    await appended
    tellFailure()
  }

  const flush = () => handOn(waiting.length)

  return {
    async write(events) {
      for (const event of events) addMerged(waiting, event)
      const whole = waiting.findLastIndex((event) => event.type !== 'delta') + 1
      if (whole > 0) return handOn(whole)
      if (textLength(waiting) >= maxChars) return flush()
      if (waiting.length > 0) startTimer()
      tellFailure()
    },
    flush,
    [Symbol.asyncDispose]: flush,
  }
}

/** Adds an event to a list; a delta that goes on where the last one ended becomes one with it. */
function addMerged(list: NewEvent[], event: NewEvent): void {
  const last = list.at(-1)
  const goesOn =
    event.type === 'delta' &&
    last?.type === 'delta' &&
    last.kind === event.kind &&
    last.parentToolUseId === event.parentToolUseId
  if (goesOn) list.splice(-1, 1, { ...last, text: last.text + event.text })
  else list.push(event)
}

function textLength(events: NewEvent[]): number {
  return events.reduce((sum, event) => sum + (event.type === 'delta' ? event.text.length : 0), 0)
}
