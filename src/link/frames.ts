import { ExecExit, FRAME_HEADER_BYTES, FRAME_KIND, MAX_FRAME_BYTES } from './protocol.ts'
import { misbehaved } from './errors.ts'
import { parseJson } from './request.ts'
import type { ExecOutput } from './types.ts'

const MAX_EXIT_BYTES = 1024

/**
 * Cuts spool bytes into frames. Holds at most one unfinished frame; what is no frame, too large, or behind the exit is
 * `guest_misbehaved`.
 */
export class FrameParser {
  #rest: Buffer = Buffer.alloc(0)
  #next: number

  /** `from`: the spool offset of the first byte. */
  constructor(from: number) {
    this.#next = from
  }

  /** The frames that `chunk` completes. */
  *push(chunk: Buffer): Generator<ExecOutput> {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    while (bytes.length >= FRAME_HEADER_BYTES) {
      const length = bytes.readUInt32BE(1)
      if (length > MAX_FRAME_BYTES) throw misbehaved('The guest sent an output frame that is too large.')
      const end = FRAME_HEADER_BYTES + length
      if (bytes.length < end) break
      const frame = this.#frame(bytes[0], bytes.subarray(FRAME_HEADER_BYTES, end), end)
      bytes = bytes.subarray(end)
      if (frame.kind === 'exit' && bytes.length > 0)
        throw misbehaved('The guest sent output behind the exit of a process.')
      yield frame
    }
    // A copy: a small rest must not keep a large chunk alive.
    this.#rest = Buffer.from(bytes)
  }

  #frame(kind: number | undefined, payload: Buffer, size: number): ExecOutput {
    this.#next += size
    const next = this.#next
    if (kind === FRAME_KIND.stdout) return { kind: 'stdout', data: payload, next }
    if (kind === FRAME_KIND.stderr) return { kind: 'stderr', data: payload, next }
    if (kind !== FRAME_KIND.exit || payload.length > MAX_EXIT_BYTES)
      throw misbehaved('The guest sent an output frame of no known kind.')
    return { kind: 'exit', exit: parseJson(payload.toString('utf8'), ExecExit), next }
  }
}
