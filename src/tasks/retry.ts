import type { ErrorCode } from '../contracts/errors.ts'
import type { Ending } from './verdict.ts'

/** What ended a task before its time that neither it nor its user has done. */
const LOSSES: ReadonlySet<ErrorCode | undefined> = new Set([
  'boot_failed',
  'engine_failed',
  'guest_lost',
  'interrupted',
] satisfies ErrorCode[])

/** A pause never grows beyond this factor. */
const MAX_BACK_OFF = 12

/** What counts for another attempt. */
export interface Attempt {
  /** Whether its user wants it run again even if it may have had effects outside. */
  requeue: boolean
  /** How often it was started. */
  attempts: number
  /** Whether its agent was started: from then on it may have had effects. */
  begun: boolean
}

/**
 * Whether a task that ended like this may be started again. Only what was lost through no doing of its own, only where it can't have had
 * effects outside or its user said that this does not matter, and only so often.
 */
export function mayRunAgain(
  { failure }: Pick<Ending, 'failure'>,
  { requeue, attempts, begun }: Attempt,
  maxRetries: number,
): boolean {
  return LOSSES.has(failure?.code) && (requeue || !begun) && attempts <= maxRetries
}

/** How long to wait before another attempt, in ms: twice as long after each. */
export function backOffMs(attempts: number, retryMs: number): number {
  return retryMs * Math.min(2 ** (attempts - 1), MAX_BACK_OFF)
}
