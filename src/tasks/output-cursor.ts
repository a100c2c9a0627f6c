import type { ExecOutput } from '../link/types.ts'

type Printed = Extract<ExecOutput, { data: Buffer }>
type Counts = Record<Printed['kind'], number>

/** Where output is read on: at a frame of the guest's spool, past so many bytes of each stream, which events tell of already. */
export interface OutputPosition {
  from: number
  skip: Counts
}

export const BEGINNING: OutputPosition = { from: 0, skip: { stdout: 0, stderr: 0 } }

/**
 * Follows how far an agent's output has become events. The guest can give it again from the start of any frame only, and the last line may
 * be half there, so a position is a frame that holds the first pending byte, and what of it and the frames behind it is done.
 */
export class OutputCursor {
  /** What is still to be left out of what comes, as it was read by a reader before. */
  readonly #skip: Counts
  #from: number
  #next: number
  /** Bytes of each stream since `#from`. */
  #seen: Counts = { stdout: 0, stderr: 0 }

  constructor({ from, skip }: OutputPosition) {
    this.#from = from
    this.#next = from
    this.#skip = { ...skip }
  }

  /** How much the guest has to keep, in bytes, so that it can be read again. */
  get lag(): number {
    return this.#next - this.#from
  }

  /** The bytes of a piece that are new. */
  take({ kind, data }: Printed): Buffer {
    const known = Math.min(this.#skip[kind], data.length)
    this.#skip[kind] -= known
    return data.subarray(known)
  }

  /** A piece was taken by a parser of which the last `pending` bytes of each stream have not become events. */
  settle({ kind, data, next }: Printed, pending: Counts): OutputPosition {
    const other = kind === 'stdout' ? 'stderr' : 'stdout'
    this.#seen[kind] += data.length
    if (pending.stdout === 0 && pending.stderr === 0) {
      this.#begin(next)
    } else if (pending[other] === 0 && pending[kind] <= data.length) {
      this.#begin(this.#next)
      this.#seen[kind] = data.length
    }
    this.#next = next
    const done = (stream: keyof Counts) => this.#seen[stream] - pending[stream] + this.#skip[stream]
    return { from: this.#from, skip: { stdout: done('stdout'), stderr: done('stderr') } }
  }

  /** Everything that came has become events, what was pending too. */
  end(): OutputPosition {
    return { from: this.#next, skip: { ...this.#skip } }
  }

  #begin(from: number): void {
    this.#from = from
    this.#seen = { stdout: 0, stderr: 0 }
  }
}
