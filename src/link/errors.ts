import { VivariumError } from '../contracts/errors.ts'

const MAX_QUOTE = 300

/** The session ended under a request: it may be sent again on the next, if it is of that kind. Stays inside this room. */
export class SessionBroken extends Error {
  override readonly name = 'SessionBroken'
}

export function guestLost(message: string, cause?: unknown): VivariumError {
  return new VivariumError('guest_lost', message, { cause })
}

export function misbehaved(message: string, cause?: unknown): VivariumError {
  return new VivariumError('guest_misbehaved', message, { cause })
}

/** What a call rejects with when its caller has aborted it. */
export function abortError(signal: AbortSignal): VivariumError {
  const reason: unknown = signal.reason
  return reason instanceof VivariumError
    ? reason
    : new VivariumError('cancelled', 'The call was aborted.', { cause: reason })
}

/** Text of a guest, fit to be quoted in a message or a log: one line, no control characters, not long. */
export function quoted(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').slice(0, MAX_QUOTE)
}

/** The agent's refusal as an error: what the caller asked for was wrong, or the agent itself failed. */
export function refusal(status: number, sentence: string): VivariumError {
  const text = `The guest refused: ${quoted(sentence)}`
  if (status === 404) return new VivariumError('not_found', text)
  if (status === 410) return guestLost(text)
  if (status === 413) return new VivariumError('too_large', text)
  return status < 500 ? new VivariumError('invalid_request', text) : misbehaved(text)
}
