import type { IncomingHttpHeaders } from 'node:http'

/** A time until which an account takes no requests, and what it said. */
export interface Hold {
  until: Date
  message: string
}

/** Shorter waits are left to the agent: Claude Code (2.1.330, measured) waits by itself for 45 s, and gives up at once when told 90. */
const MIN_HOLD_MS = 60_000

/** Limits are by the week at most; a time later than this is nonsense. */
const MAX_HOLD_MS = 8 * 24 * 3600_000

/** Statuses by which the API says that it takes no more for now: rate and usage limits, overload. */
export function isRateLimit(status: number): boolean {
  return status === 429 || status === 529
}

/**
 * The hold that a rate-limit answer asks for; undefined where it names no time worth holding for. What it says is believed of the
 * first of: the account's window that is used up (`anthropic-ratelimit-unified-reset`, seconds since 1970), `retry-after` (seconds, or a
 * date), the text of the error (`… limit reached|1769990400`).
 */
export function holdOf(headers: IncomingHttpHeaders, message: string, now: Date): Hold | undefined {
  const until = unifiedReset(headers) ?? retryAfter(headers['retry-after'], now) ?? resetInText(message)
  if (until === undefined) return undefined
  const waitMs = until.getTime() - now.getTime()
  return waitMs >= MIN_HOLD_MS && waitMs <= MAX_HOLD_MS ? { until, message } : undefined
}

function unifiedReset(headers: IncomingHttpHeaders): Date | undefined {
  const status = headers['anthropic-ratelimit-unified-status'] ?? 'rejected'
  return status === 'rejected' ? epoch(headers['anthropic-ratelimit-unified-reset']) : undefined
}

function retryAfter(value: string | undefined, now: Date): Date | undefined {
  if (value === undefined) return undefined
  if (/^\d{1,9}$/.test(value)) return new Date(now.getTime() + Number(value) * 1000)
  const date = new Date(value)
  return Number.isNaN(date.getTime()) ? undefined : date
}

function resetInText(message: string): Date | undefined {
  return epoch(/limit reached\|(\d{10})\b/.exec(message)?.[1])
}

function epoch(value: string | string[] | undefined): Date | undefined {
  return typeof value === 'string' && /^\d{10}$/.test(value) ? new Date(Number(value) * 1000) : undefined
}
