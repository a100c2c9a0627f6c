import { ExecExit, FRAME_HEADER_BYTES, FRAME_KIND, MAX_FRAME_BYTES } from './protocol.ts'
import { misbehaved } from './errors.ts'
import { parseJson } from './request.ts'
import type { ExecOutput } from './types.ts'

const MAX_EXIT_BYTES = 1024

/**
 * Cuts spool bytes into frames. Holds at most one unfinished frame, and joins it once, however small its pieces; what is no frame,
 * too large, or behind the exit is `guest_misbehaved`.
 */
export class FrameParser {
  /** Of the unfinished frame. */
  #pieces: Buffer[] = []
  #held = 0
  /** What must be there before it is worth a look. */
  #needed = FRAME_HEADER_BYTES
  #next: number

  /** `from`: the spool offset of the first byte. */
  constructor(from: number) {
    this.#next = from
  }

  /** The frames that `chunk` completes. */
  *push(chunk: Buffer): Generator<ExecOutput> {
    if (this.#held + chunk.length < this.#needed) return this.#hold(chunk)
    let bytes = this.#pieces.length === 0 ? chunk : Buffer.concat([...this.#pieces, chunk])
    this.#pieces = []
    this.#held = 0
    for (;;) {
      this.#needed = frameSize(bytes)
      if (bytes.length < this.#needed) break
      const frame = this.#read(bytes.subarray(0, this.#needed))
      bytes = bytes.subarray(this.#needed)
      if (frame.kind === 'exit' && bytes.length > 0)
        throw misbehaved('The guest sent output behind the exit of a process.')
      yield frame
    }
    if (bytes.length > 0) this.#hold(bytes)
  }

  #hold(piece: Buffer): void {
    // A copy: a small piece must not keep a large chunk alive.
    this.#pieces.push(Buffer.from(piece))
    this.#held += piece.length
  }

  #read(frame: Buffer): ExecOutput {
    this.#next += frame.length
    const next = this.#next
    const [kind] = frame
    const data = frame.subarray(FRAME_HEADER_BYTES)
    if (kind === FRAME_KIND.stdout) return { kind: 'stdout', data, next }
    if (kind === FRAME_KIND.stderr) return { kind: 'stderr', data, next }
    if (kind !== FRAME_KIND.exit || data.length > MAX_EXIT_BYTES)
      throw misbehaved('The guest sent an output frame of no known kind.')
    return { kind: 'exit', exit: parseJson(data.toString('utf8'), ExecExit), next }
  }
}

/** Bytes of the frame that begins here, or of its header where that is not whole yet. */
function frameSize(bytes: Buffer): number {
  if (bytes.length < FRAME_HEADER_BYTES) return FRAME_HEADER_BYTES
  const length = bytes.readUInt32BE(1)
  if (length > MAX_FRAME_BYTES) throw misbehaved('The guest sent an output frame that is too large.')
  return FRAME_HEADER_BYTES + length
}
