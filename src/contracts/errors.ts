import { z } from 'zod'

/**
 * The closed list of error codes. `blame` keeps what the user did apart from what we, the agent's run or the guest did:
 * a user's error is answered with what to change, ours is logged with its cause.
 * `status` is the HTTP status of a request refused with that code.
 */
export const ERROR_CODES = {
  // what the caller sent
  invalid_request: { blame: 'user', status: 400 },
  unauthenticated: { blame: 'user', status: 401 },
  forbidden: { blame: 'user', status: 403 },
  gone: { blame: 'user', status: 410 },
  not_found: { blame: 'user', status: 404 },
  conflict: { blame: 'user', status: 409 },
  too_large: { blame: 'user', status: 413 },
  unsupported_media_type: { blame: 'user', status: 415 },
  range_not_satisfiable: { blame: 'user', status: 416 },
  queue_full: { blame: 'user', status: 429 },
  machine_too_large: { blame: 'user', status: 422 },
  no_credential: { blame: 'user', status: 422 },
  // what the host lacks or did
  setup_required: { blame: 'host', status: 503 },
  shutting_down: { blame: 'host', status: 503 },
  engine_failed: { blame: 'host', status: 500 },
  image_failed: { blame: 'host', status: 500 },
  storage_failed: { blame: 'host', status: 500 },
  internal: { blame: 'host', status: 500 },
  // what happened in or to the guest
  boot_failed: { blame: 'guest', status: 502 },
  machine_destroyed: { blame: 'user', status: 409 },
  guest_lost: { blame: 'guest', status: 502 },
  guest_misbehaved: { blame: 'guest', status: 502 },
  out_of_memory: { blame: 'guest', status: 502 },
  // how an agent's run ended
  prerequisite_failed: { blame: 'agent', status: 409 },
  agent_failed: { blame: 'agent', status: 502 },
  model_error: { blame: 'agent', status: 502 },
  max_turns: { blame: 'agent', status: 502 },
  over_budget: { blame: 'agent', status: 402 },
  timed_out: { blame: 'agent', status: 504 },
  cancelled: { blame: 'user', status: 409 },
  interrupted: { blame: 'host', status: 503 },
  results_incomplete: { blame: 'guest', status: 502 },
} as const satisfies Record<string, { blame: 'user' | 'host' | 'guest' | 'agent'; status: number }>

export type ErrorCode = keyof typeof ERROR_CODES
export const ErrorCode = z.enum(Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]])

/** The one error class that crosses rooms. `message` is a sentence a person can act on and never holds a secret. */
export class VivariumError extends Error {
  override readonly name = 'VivariumError'
  readonly code: ErrorCode
  /** The input field at fault, as a dotted path, for user errors. */
  readonly field: string | undefined
  /** After how long asking again may help, where that can be told. */
  readonly retryAfterSeconds: number | undefined

  constructor(
    code: ErrorCode,
    message: string,
    options: { field?: string | undefined; cause?: unknown; retryAfterSeconds?: number | undefined } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.field = options.field
    this.retryAfterSeconds = options.retryAfterSeconds
  }

  get blame() {
    return ERROR_CODES[this.code].blame
  }
}

/** Anything thrown, as a VivariumError; what is not ours becomes `internal` (or `fallback`) with the original as its cause. */
export function toVivariumError(error: unknown, fallback: ErrorCode = 'internal'): VivariumError {
  if (error instanceof VivariumError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new VivariumError(fallback, message, { cause: error })
}

/** RFC 9457 problem details, as every refused request is answered. */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: ErrorCode,
  detail: z.string(),
  field: z.string().optional(),
})
export type Problem = z.infer<typeof Problem>

/** The problem document of an error. */
export function toProblem(error: VivariumError): Problem {
  return {
    type: `urn:vivarium:error:${error.code}`,
    title: error.code.replaceAll('_', ' '),
    status: ERROR_CODES[error.code].status,
    code: error.code,
    detail: error.message,
    ...(error.field === undefined ? {} : { field: error.field }),
  }
}

/** What a finished task or a failed machine says of its end. */
export const Failure = z.object({ code: ErrorCode, message: z.string() })
export type Failure = z.infer<typeof Failure>
