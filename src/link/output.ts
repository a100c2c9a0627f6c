import { z } from 'zod'
import type { Calls } from './calls.ts'
import { abortError, misbehaved } from './errors.ts'
import { FrameParser } from './frames.ts'
import type { Answer } from './request.ts'
import type { ExecOutput, OutputAcks } from './types.ts'

/** How much the consumer takes between two acknowledgements. */
const ACK_BYTES = 1024 * 1024
/** Streams that bring nothing, one after the other, while the session stays up. */
const MAX_EMPTY_STREAMS = 5

/** How to ask for output from an offset on. */
export type OpenOutput = (from: number) => Promise<Answer>

export function openOutput(calls: Calls, id: string, signal: AbortSignal | undefined): OpenOutput {
  return (from) => calls.open({ method: 'GET', path: `/execs/${id}/output?from=${from}`, repeatable: true, signal })
}

/**
 * The output of an exec from `from` on, until its exit. Reads no faster than its consumer, goes on where it was after a
 * broken session, and acknowledges a piece to `acks` once the consumer asks for what follows.
 */
export async function* readOutput(
  open: OpenOutput,
  from: number,
  acks: Acks | undefined,
  signal?: AbortSignal,
): AsyncGenerator<ExecOutput, void> {
  let next = from
  let emptyStreams = 0
  for (;;) {
    const answer = await open(next)
    const before = next
    for await (const piece of readPieces(answer, next, signal)) {
      next = piece.next
      if (piece.kind === 'exit') {
        try {
          yield piece
        } finally {
          // Nothing more will be asked for: leaving is the sign that it was taken.
          acks?.taken(next, true)
        }
        return
      }
      yield piece
      acks?.taken(next, false)
    }
    if (signal?.aborted === true) throw abortError(signal)
    if (answer.session.over) await answer.session.ended
    else emptyStreams = next > before ? 0 : emptyStreams + 1
    if (emptyStreams >= MAX_EMPTY_STREAMS) throw misbehaved('The guest keeps breaking off the output of a process.')
  }
}

/** Pieces of one stream, until it ends or breaks: either way the caller goes on from the last piece. */
async function* readPieces(
  { stream }: Answer,
  from: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<ExecOutput> {
  const parser = new FrameParser(from)
  const onAbort = () => stream.destroy()
  signal?.addEventListener('abort', onAbort)
  const chunks = (stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
  try {
    for (;;) {
      // A stream that breaks looks like one that ends: neither is whole without an exit.
      const chunk = await chunks.next().catch(() => ({ done: true, value: undefined }) as const)
      if (chunk.done === true) return
      yield* parser.push(chunk.value)
    }
  } finally {
    signal?.removeEventListener('abort', onAbort)
    stream.destroy()
  }
}

/** Tells the guest what it may forget; one request at a time, and none that anybody waits for. */
export class Acks implements OutputAcks {
  readonly #calls: Calls
  readonly #id: string
  #taken: number
  #sent: number
  #ended = false
  #sending = false

  constructor(calls: Calls, id: string, from: number) {
    this.#calls = calls
    this.#id = id
    this.#taken = from
    this.#sent = from
  }

  taken(offset: number, last = false): void {
    this.#taken = offset
    this.#ended = last
    if (!this.#sending && this.#due()) void this.#send()
  }

  #due(): boolean {
    return this.#taken - this.#sent >= (this.#ended ? 1 : ACK_BYTES)
  }

  async #send(): Promise<void> {
    this.#sending = true
    try {
      while (this.#due()) {
        const to = this.#taken
        const path = `/execs/${this.#id}/ack?to=${to}`
        await this.#calls.json({ method: 'POST', path, repeatable: true }, z.unknown())
        this.#sent = to
      }
    } catch {
      // The guest keeps more than it must until the next one; if it is lost, the output says so.
    } finally {
      this.#sending = false
    }
  }
}
