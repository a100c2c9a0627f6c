import type { z } from 'zod'
import { guestLost, SessionBroken } from './errors.ts'
import type { LinkSettings } from './options.ts'
import { type Answer, type LinkRequest, readJson, send } from './request.ts'
import type { Sessions } from './sessions.ts'

export type Call = Omit<LinkRequest, 'deadlineMs'> & {
  /** Until the head of the answer; `callMs` unless given. */
  deadlineMs?: number
  /** False: must not be sent twice. Then a session that ends under it is `guest_lost`. */
  repeatable: boolean
}

const MAX_JSON_BYTES = 64 * 1024
/** How often a call is sent at most, by a session that ended under it each time: a guest could go on like that for ever. */
const MAX_ATTEMPTS = 10

/** Requests to the agent over whatever session is up: what may be repeated is repeated on the next. */
export class Calls {
  readonly sessions: Sessions
  readonly settings: LinkSettings

  constructor(sessions: Sessions, settings: LinkSettings) {
    this.sessions = sessions
    this.settings = settings
  }

  /** The head of a 2xx answer. */
  open(call: Call): Promise<Answer> {
    return this.#attempt(call, (answer) => Promise.resolve(answer))
  }

  /** A small JSON answer. */
  json<T extends z.ZodType>(call: Call, schema: T, maxBytes = MAX_JSON_BYTES): Promise<z.infer<T>> {
    const deadlineMs = call.deadlineMs ?? this.settings.deadlines.callMs
    return this.#attempt(call, (answer) => readJson(answer, schema, maxBytes, { deadlineMs, signal: call.signal }))
  }

  /** Sends the request and uses its answer, again on the next session where the session ended under either. */
  async #attempt<T>(call: Call, use: (answer: Answer) => Promise<T>): Promise<T> {
    const request = { deadlineMs: this.settings.deadlines.callMs, ...call }
    for (let attempt = 1; ; attempt += 1) {
      const session = await this.sessions.current(call.signal)
      try {
        return await use(await send(session, request))
      } catch (error) {
        if (!(error instanceof SessionBroken)) throw error
        if (!call.repeatable) throw guestLost('The guest was lost in the middle of a request.', error)
        if (attempt === MAX_ATTEMPTS)
          throw guestLost('The guest was lost in the middle of a request, each time.', error)
        // The next one, never this one again.
        await session.ended
      }
    }
  }
}
