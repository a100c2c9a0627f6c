import { z } from 'zod'
import { newId } from '../contracts/ids.ts'
import { VivariumError } from '../contracts/errors.ts'
import type { Calls } from './calls.ts'
import { misbehaved } from './errors.ts'
import { Acks, openOutput, readOutput } from './output.ts'
import type { ExecResult, ExecSpec, GuestLink, SignalRequest } from './types.ts'

const DEFAULT_MAX_BYTES = 1024 * 1024

export function signalExec(calls: Calls, id: string, signal: SignalRequest['signal']): Promise<unknown> {
  const body = Buffer.from(JSON.stringify({ signal } satisfies SignalRequest))
  return calls.json({ method: 'POST', path: `/execs/${id}/signal`, body, repeatable: true }, z.unknown())
}

export async function sendInput(
  calls: Calls,
  id: string,
  at: number,
  data: Buffer,
  end: boolean,
  signal?: AbortSignal,
): Promise<void> {
  const path = `/execs/${id}/input?at=${at}${end ? '&end=1' : ''}`
  const deadlineMs = calls.settings.deadlines.bulkMs
  await calls.json({ method: 'PUT', path, body: data, deadlineMs, repeatable: true, signal }, z.unknown())
}

/** Keeps the first `maxBytes` of a stream. */
class Capture {
  readonly #maxBytes: number
  readonly #chunks: Buffer[] = []
  #size = 0
  truncated = false

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  push(data: Buffer): void {
    const kept = data.subarray(0, this.#maxBytes - this.#size)
    if (kept.length < data.length) this.truncated = true
    if (kept.length === 0) return
    // A copy: a small piece must not keep the chunk it came in alive.
    this.#chunks.push(Buffer.from(kept))
    this.#size += kept.length
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks)
  }
}

/** Runs a command to its end: one request that starts it and streams its output. See `GuestLink.exec`. */
export async function runToEnd(
  calls: Calls,
  spec: Omit<ExecSpec, 'stdin'>,
  options: Parameters<GuestLink['exec']>[1],
): Promise<ExecResult> {
  const { timeoutMs, maxBytes = DEFAULT_MAX_BYTES, stdin } = options
  const id = newId('x')
  const full: ExecSpec = { ...spec, stdin: stdin === undefined ? 'none' : 'pipe' }
  const stuck = new AbortController()
  const signal = AbortSignal.any([stuck.signal, ...(options.signal === undefined ? [] : [options.signal])])
  const captures = { stdout: new Capture(maxBytes), stderr: new Capture(maxBytes) }
  const resume = openOutput(calls, id, signal)
  let stdinSent: Promise<void> | undefined
  let timedOut = false
  let ended = false

  const kill = () => {
    signalExec(calls, id, 'SIGKILL').catch(() => {
      // The guest is lost, or never started it: the output says which.
    })
  }
  let timer = setTimeout(() => {
    timedOut = true
    kill()
    // Whatever it left behind its exit is recorded for a while; then it must be over.
    timer = setTimeout(
      () => stuck.abort(misbehaved('The guest did not end a command that was killed.')),
      calls.settings.deadlines.callMs,
    )
  }, timeoutMs)

  const open = async (from: number) => {
    if (from > 0) return resume(from)
    const body = Buffer.from(JSON.stringify(full))
    const answer = await calls.open({ method: 'PUT', path: `/execs/${id}?output=1`, body, repeatable: true, signal })
    if (stdin !== undefined)
      stdinSent ??= sendInput(calls, id, 0, stdin, true, signal).catch(() => {
        // A command may end without reading all of it.
      })
    return answer
  }

  try {
    for await (const piece of readOutput(open, 0, new Acks(calls, id, 0), signal)) {
      if (piece.kind !== 'exit') {
        captures[piece.kind].push(piece.data)
        continue
      }
      ended = true
      return {
        exit: piece.exit,
        stdout: captures.stdout.bytes(),
        stderr: captures.stderr.bytes(),
        truncated: captures.stdout.truncated || captures.stderr.truncated,
        timedOut,
      }
    }
    throw new VivariumError('internal', 'The output of a command ended without its exit.')
  } finally {
    clearTimeout(timer)
    if (!ended) kill()
    stuck.abort()
  }
}
