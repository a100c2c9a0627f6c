import type { ErrorCode, Failure } from '../contracts/errors.ts'
import { toVivariumError, VivariumError } from '../contracts/errors.ts'
import type { FinalStatus } from '../contracts/task.ts'

/** Why a task ends before its agent does. */
export interface StopReason {
  status: FinalStatus
  failure: Failure
}

/** The final status of a task that failed with `code`. */
export function statusOf(code: ErrorCode): FinalStatus {
  switch (code) {
    case 'cancelled':
    case 'timed_out':
    case 'over_budget':
    case 'interrupted':
      return code
    default:
      return 'failed'
  }
}

/** The reason that lies in anything thrown. */
export function reasonOf(error: unknown): StopReason {
  const { code, message } = toVivariumError(error)
  return { status: statusOf(code), failure: { code, message } }
}

/** Whether the machine is gone, so that nothing can be asked of it any more. */
export function isMachineGone(reason: StopReason | undefined): boolean {
  return reason?.failure.code === 'guest_lost' || reason?.failure.code === 'machine_destroyed'
}

/**
 * One task's end before its time: cancelled, timed out, its machine lost … Each may be asked for at any moment and by several at
 * once; the first reason is the one that counts.
 */
export class StopSwitch {
  readonly #controller = new AbortController()
  #reason: StopReason | undefined

  /** Aborts once a reason was given. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get reason(): StopReason | undefined {
    return this.#reason
  }

  stop(code: ErrorCode, message: string): void {
    if (this.#reason !== undefined) return
    this.#reason = { status: statusOf(code), failure: { code, message } }
    this.#controller.abort(new VivariumError(code, message))
  }
}
