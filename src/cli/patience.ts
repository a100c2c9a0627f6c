import { setTimeout as sleep } from 'node:timers/promises'
import { VivariumError } from '../contracts/errors.ts'
import type { Io } from './io.ts'

/** A server that says when to come again is asked so often … */
const MOST_TRIES = 20
/** … and waited for at most so long in all. */
const MOST_SECONDS = 15 * 60

/**
 * Asks a server, and again when it says that this may help (a full queue: 429 with Retry-After), within bounds. Rejects with its
 * last refusal, or with the signal's reason.
 */
export async function patiently<Answer>(io: Io, ask: () => Promise<Answer>): Promise<Answer> {
  let waited = 0
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask()
    } catch (error) {
      const seconds = error instanceof VivariumError ? error.retryAfterSeconds : undefined
      if (seconds === undefined || tries === MOST_TRIES || waited + seconds > MOST_SECONDS) throw error
      waited += seconds
      io.note(`${error instanceof Error ? error.message : ''} Asking again in ${seconds} s …`)
      await sleep(seconds * 1000, undefined, { signal: io.signal })
    }
  }
}
