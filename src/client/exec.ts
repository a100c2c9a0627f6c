import { VivariumError } from '../contracts/errors.ts'
import type { ExecResponse } from '../contracts/machine.ts'
import { ExecEvent } from '../contracts/server.ts'
import { type Http, problemError, segment, unreachable } from './http.ts'
import { sseMessages } from './sse.ts'
import type { CallOptions } from './types.ts'

/** Output kept per stream, in bytes: as much as the JSON answer of the API holds. */
const MAX_OUTPUT_BYTES = 1024 * 1024

/** A command's output over SSE. See `MachinesClient.execStream`. */
export async function* execStream(
  http: Http,
  id: string,
  request: unknown,
  options: CallOptions = {},
): AsyncGenerator<ExecEvent> {
  const response = await http.send('POST', `/vms/${segment(id)}/exec`, {
    json: request,
    headers: { accept: 'text/event-stream' },
    signal: options.signal,
  })
  try {
    for await (const message of sseMessages(response.body ?? [])) {
      if (message.event === 'problem') throw problemError(message.data)
      if (message.event === 'comment') continue
      const event = ExecEvent.parse(JSON.parse(message.data))
      yield event
      if (event.kind === 'exit') return
    }
  } catch (error) {
    options.signal?.throwIfAborted()
    throw unreachable(http.base, error)
  }
  throw new VivariumError('guest_lost', 'The connection ended before the command did.')
}

/**
 * Runs a command to its end. Over SSE as well: a command may print nothing for longer than HTTP clients and proxies wait
 * for an answer.
 */
export async function exec(http: Http, id: string, request: unknown, options: CallOptions = {}): Promise<ExecResponse> {
  const output = { stdout: new Capped(), stderr: new Capped() }
  for await (const event of execStream(http, id, request, options)) {
    if (event.kind !== 'exit') {
      output[event.kind].add(Buffer.from(event.dataBase64, 'base64'))
      continue
    }
    const { stdout, stderr } = output
    const truncated = stdout.truncated || stderr.truncated
    return {
      exitCode: event.exitCode,
      stdout: stdout.text(),
      stderr: stderr.text(),
      truncated,
      timedOut: event.timedOut,
    }
  }
  throw new VivariumError('guest_lost', 'The command ended without an exit code.')
}

class Capped {
  truncated = false
  #chunks: Buffer[] = []
  #room = MAX_OUTPUT_BYTES

  add(chunk: Buffer): void {
    if (chunk.length > this.#room) this.truncated = true
    const kept = chunk.subarray(0, this.#room)
    this.#room -= kept.length
    if (kept.length > 0) this.#chunks.push(kept)
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString()
  }
}
