import { z } from 'zod'
import type { NewEvent } from '../contracts/event.ts'
import { WORKSPACE } from '../link/protocol.ts'
import type { ExecExit } from '../link/types.ts'
import { exitFailure, Tail } from './failures.ts'
import { TextStream } from './text-stream.ts'
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
  parser: (_start, state) => new ShellParser(state),
}

const ShellState = z.object({ stdout: z.string(), stderr: z.string() }).catch({ stdout: '', stderr: '' })

/** Passes text on as it is printed, in order; characters that are cut in two by a read stay whole. */
class ShellParser implements AgentParser {
  readonly resultAt = undefined
  readonly #stdout: Printed
  readonly #stderr: Printed

  constructor(state: unknown) {
    const { stdout, stderr } = ShellState.parse(state)
    this.#stdout = { text: new TextStream(), tail: new Tail(RESULT_CHARS, stdout) }
    this.#stderr = { text: new TextStream(), tail: new Tail(RESULT_CHARS, stderr) }
  }

  get pending() {
    return { stdout: this.#stdout.text.pending, stderr: this.#stderr.text.pending }
  }

  async push(stream: 'stdout' | 'stderr', data: Buffer): Promise<NewEvent[]> {
    return this.#print(stream, (text) => text.push(data))
  }

  async cut(): Promise<NewEvent[]> {
    return [...this.#print('stdout', (text) => text.end()), ...this.#print('stderr', (text) => text.end())]
  }

  end(): Promise<NewEvent[]> {
    return this.cut()
  }

  state(): z.infer<typeof ShellState> {
    return { stdout: this.#stdout.tail.text, stderr: this.#stderr.tail.text }
  }

  outcome(exit: ExecExit): AgentOutcome {
    const failure = exit.code === 0 ? undefined : exitFailure('The script', exit, this.#stderr.tail)
    return { result: this.#stdout.tail.text, turns: 0, failure }
  }

  async close(): Promise<void> {
    // Holds nothing but memory.
  }

  #print(stream: 'stdout' | 'stderr', read: (text: TextStream) => string): NewEvent[] {
    const printed = stream === 'stdout' ? this.#stdout : this.#stderr
    const text = read(printed.text)
    if (text === '') return []
    printed.tail.push(text)
    return [{ type: stream === 'stdout' ? 'raw' : 'stderr', text }]
  }
}

interface Printed {
  text: TextStream
  tail: Tail
}
