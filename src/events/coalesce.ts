import type { NewEvent } from '../contracts/event.ts'
import type { Checkpoint, EventWriter } from './types.ts'

export interface CoalescerOptions {
  /** Where events go, in the order of calls, e.g. `(events, checkpoint) => log.append(taskId, events, checkpoint)`. */
  append(events: NewEvent[], checkpoint: Checkpoint | undefined): Promise<unknown>
  /** Milliseconds that partial text waits for more. */
  windowMs?: number
  /** Partial text of this many characters waits no longer. */
  maxChars?: number
}

/**
 * Merges neighbouring `delta`s of the same kind and parent for about 50 ms, so that a model's tokens don't cost an event
 * each. Any other event takes with it what waits, and what came with it: the order stays, and a checkpoint is never stored without all
 * it stands for, nor they without it.
 */
export function createDeltaCoalescer({ append, windowMs = 50, maxChars = 32_768 }: CoalescerOptions): EventWriter {
  /** Between calls: deltas only. */
  let waiting: NewEvent[] = []
  /** The newest checkpoint of what waits. */
  let checkpoint: Checkpoint | undefined
  let timer: NodeJS.Timeout | undefined
  /** The append made by the timer; its failure is kept for the next caller, since nobody awaits it. */
  let background: Promise<void> = Promise.resolve()
  let failure: { error: unknown } | undefined
  let isAppending = false

  const appendAll = () => {
    clearTimeout(timer)
    timer = undefined
    const appended = waiting.length > 0 || checkpoint !== undefined ? append(waiting, checkpoint) : undefined
    waiting = []
    checkpoint = undefined
    return appended
  }

  const appendInBackground = async () => {
    isAppending = true
    try {
      await appendAll()
    } catch (error) {
      failure = { error }
    }
    isAppending = false
    if (waiting.length > 0) startTimer()
  }

  const startTimer = () => {
    // While the disk takes nothing, text gathers up to its limit, and whoever brings more waits.
    if (isAppending) return
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

  /** Appends what waits; the call is made before anything is awaited, which keeps the order. */
  const flush = async () => {
    const appended = appendAll()
    await Promise.allSettled([background, appended])
    await appended
    tellFailure()
  }

  return {
    async write(events, position) {
      for (const event of events) addMerged(waiting, event)
      checkpoint = position ?? checkpoint
      if (waiting.some(({ type }) => type !== 'delta') || textLength(waiting) >= maxChars) return flush()
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
