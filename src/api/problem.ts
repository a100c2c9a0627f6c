import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import type { z } from 'zod'
import { toProblem, VivariumError } from '../contracts/errors.ts'
import type { ApiServices, AppEnv } from './types.ts'

/** An error as RFC 9457 problem details. */
export function problemResponse(error: VivariumError, headers: Record<string, string> = {}): Response {
  const problem = toProblem(error)
  const { retryAfterSeconds } = error
  const retry = retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }
  return new Response(JSON.stringify(problem), {
    status: problem.status,
    headers: { 'content-type': 'application/problem+json', ...retry, ...headers },
  })
}

/** Seconds until a server that stops is likely to be there again. */
const RESTART_SECONDS = 5

/** Answers whatever a handler threw; what is our fault goes to the log, and only what we wrote ourselves to the caller. */
export function errorHandler(services: Pick<ApiServices, 'onError'>) {
  return (thrown: unknown, c: Context<AppEnv>): Response => {
    const error = asVivariumError(thrown)
    if (error.blame !== 'user') services.onError(error, { method: c.req.method, path: c.req.path })
    if (error.code === 'unauthenticated')
      return problemResponse(error, { 'www-authenticate': 'Bearer realm="vivarium"' })
    if (error.code === 'shutting_down') return problemResponse(error, { 'retry-after': String(RESTART_SECONDS) })
    return problemResponse(error)
  }
}

/** The sentence of an error for callers; the original stays its cause. */
export function asVivariumError(thrown: unknown): VivariumError {
  if (thrown instanceof VivariumError) return thrown
  if (thrown instanceof HTTPException && thrown.status < 500) {
    return new VivariumError('invalid_request', `The request could not be read: ${thrown.message}`, { cause: thrown })
  }
  return new VivariumError('internal', 'Something went wrong inside Vivarium; its log says what.', { cause: thrown })
}

/** Called by the router with the outcome of each validation: a refusal names the field at fault. */
export function validationHook(result: {
  target: string
  success: boolean
  error?: z.core.$ZodError | undefined
}): Response | undefined {
  if (result.success || result.error === undefined) return undefined
  const issue = result.error.issues[0]
  const field = issue === undefined ? '' : fieldOf(issue)
  // An id of the wrong form names nothing that exists.
  if (result.target === 'param') return problemResponse(new VivariumError('not_found', `There is no such ${field}.`))
  const reason = issue === undefined ? 'is not valid' : reasonOf(issue)
  const message = field === '' ? `The request is not valid: ${reason}.` : `"${field}" is not valid: ${reason}.`
  return problemResponse(new VivariumError('invalid_request', message, field === '' ? {} : { field }))
}

/** A schema library's words, but for the one case that people meet most. */
function reasonOf({ code, message }: z.core.$ZodIssue): string {
  return code === 'invalid_type' && message.endsWith('received undefined') ? 'it is missing' : message
}

function fieldOf(issue: z.core.$ZodIssue): string {
  const path = issue.code === 'unrecognized_keys' ? [...issue.path, ...issue.keys.slice(0, 1)] : issue.path
  return path.map(String).join('.')
}
