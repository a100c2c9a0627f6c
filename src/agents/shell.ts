import type { NewEvent } from '../contracts/event.ts'
import { WORKSPACE } from '../link/protocol.ts'
import type { ExecExit } from '../link/types.ts'
import { exitFailure, Tail } from './failures.ts'
import type { Agent, AgentOutcome, AgentParser } from './types.ts'

/** As much of stdout as a task's result holds. */
const RESULT_CHARS = 4000

/**
 * A shell script instead of a model. `eval` reads the whole script from stdin before it runs it: scripts of any length work, and
 * commands in the script find stdin at its end instead of eating the script.
 */
export const shell: Agent = {
  name: 'shell',
  needsModel: false,
  spec: ({ env }) => ({
    argv: ['bash', '-lc', 'eval "$(cat)"'],
    env,
    cwd: WORKSPACE,
    user: 'agent',
    stdin: 'pipe',
  }),
  greeting: undefined,
  input: (job) => Buffer.from(job.prompt),
  conversation: undefined,
  parser: () => new ShellParser(),
}

/** Passes text on as it is printed, in order; characters that are cut in two by a read stay whole. */
class ShellParser implements AgentParser {
  readonly resultAt = undefined
  readonly #stdout = { decoder: new TextDecoder('utf-8', { ignoreBOM: true }), tail: new Tail(RESULT_CHARS) }
  readonly #stderr = { decoder: new TextDecoder('utf-8', { ignoreBOM: true }), tail: new Tail(RESULT_CHARS) }

  async push(stream: 'stdout' | 'stderr', data: Buffer): Promise<NewEvent[]> {
    return this.#print(stream, data)
  }

  async end(): Promise<NewEvent[]> {
    return [...this.#print('stdout'), ...this.#print('stderr')]
  }

  outcome(exit: ExecExit): AgentOutcome {
    const failure = exit.code === 0 ? undefined : exitFailure('The script', exit, this.#stderr.tail)
    return { result: this.#stdout.tail.text, turns: 0, failure }
  }

  async close(): Promise<void> {
    // Holds nothing but memory.
  }

  #print(stream: 'stdout' | 'stderr', data?: Buffer): NewEvent[] {
    const { decoder, tail } = stream === 'stdout' ? this.#stdout : this.#stderr
    const text = data === undefined ? decoder.decode() : decoder.decode(data, { stream: true })
    if (text === '') return []
    tail.push(text)
    return [{ type: stream === 'stdout' ? 'raw' : 'stderr', text }]
  }
}
