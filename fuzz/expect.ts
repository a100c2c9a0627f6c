import { type ErrorCode, VivariumError } from '../src/contracts/errors.ts'

/** What a guest can be blamed for, and what a caller may be told of a request that it refused. */
const OF_GUESTS = new Set<ErrorCode>(['guest_misbehaved', 'guest_lost', 'not_found', 'invalid_request', 'too_large'])

/** Throws what is no error that a guest may cause. */
export function expectMisbehaviour(error: unknown): void {
  if (error instanceof VivariumError && OF_GUESTS.has(error.code)) return
  throw new Error('a guest caused an error of another kind', { cause: error })
}
