import type { ParkRequest, ParkResponse } from '../src/link/protocol.ts'
import type { EgressLink } from './egress/session.ts'
import { answerJson, readJson, type Request } from './http.ts'
import type { KeptStream } from './transport/keep.ts'

/** Brings the agent to rest before its machine is saved, and lets it go on. */
export class Parking {
  readonly #link: EgressLink
  readonly #streams: { control: KeptStream; egress: KeptStream }
  /** The request that has parked the agent, or is about to. */
  #parkedBy: Request | undefined

  constructor(link: EgressLink, streams: { control: KeptStream; egress: KeptStream }) {
    this.#link = link
    this.#streams = streams
  }

  /** `POST /park`, see `src/link/protocol.ts`. A host that gives it up before the answer lets the agent go on. */
  async park(request: Request): Promise<void> {
    const { stream, closed } = request
    const { drainMs } = await readJson<ParkRequest>(stream)
    this.#parkedBy = request
    this.#link.hold()
    await this.#link.drain(drainMs, closed)
    if (!closed.aborted) await this.#streams.egress.rest(closed)
    if (this.#parkedBy !== request) return
    if (closed.aborted) return this.resume()
    answerJson(stream, {} satisfies ParkResponse)
    // Its stream has ended: all of the answer is written. `closed` is about this connection, which is to end.
    stream.once('close', () => setImmediate(() => void this.#streams.control.rest(new AbortController().signal)))
  }

  /** The machine goes on: what waits may go out. */
  resume(): void {
    if (this.#parkedBy === undefined) return
    this.#parkedBy = undefined
    this.#link.release()
    this.#streams.egress.speak()
  }
}
