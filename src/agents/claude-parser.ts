import { z } from 'zod'
import type { NewEvent } from '../contracts/event.ts'
import type { ExecExit } from '../link/types.ts'
import { type Fact, ResultFact } from './claude-events.ts'
import { claudeOutcome } from './claude-outcome.ts'
import { Tail } from './failures.ts'
import type { LineParserOptions } from './line-parser.ts'
import { LineParser } from './line-parser.ts'
import type { Line } from './line-splitter.ts'
import { LineSplitter } from './line-splitter.ts'
import { TextStream } from './text-stream.ts'
import type { AgentOutcome, AgentParser, AgentStart } from './types.ts'

/** Work in the background beyond this many is not kept track of; a run has a handful. */
const MAX_BACKGROUND = 100

/** Of a result's text the end is kept: a task shows no more of it. */
const RESULT_CHARS = 100_000

const STDERR_CHARS = 4000

const ClaudeState = z.object({
  /** Stdout is within a line that was cut. */
  isCut: z.boolean(),
  stderr: z.string(),
  background: z.array(z.string()),
  result: ResultFact.optional(),
  /** It has nothing to do since its result. */
  isIdle: z.boolean(),
})
type ClaudeState = z.infer<typeof ClaudeState>

const BEGINNING: ClaudeState = { isCut: false, stderr: '', background: [], isIdle: false }

/** Turns the stream-json output of one Claude Code run into events. Output after a result is kept; the last result counts. */
export class ClaudeParser implements AgentParser {
  readonly #start: AgentStart
  readonly #lines: LineSplitter
  readonly #lineParser: LineParser
  readonly #stderrText = new TextStream()
  readonly #stderr: Tail
  readonly #background: Set<string>
  #result: ResultFact | undefined
  #idleSince: number | undefined

  constructor(start: AgentStart, state?: unknown, options: Partial<LineParserOptions> = {}) {
    const { isCut, stderr, background, result, isIdle } = ClaudeState.catch(BEGINNING).parse(state)
    this.#start = start
    this.#lines = new LineSplitter(isCut)
    this.#lineParser = new LineParser(options)
    this.#stderr = new Tail(STDERR_CHARS, stderr)
    this.#background = new Set(background)
    this.#result = result
    this.#idleSince = isIdle ? performance.now() : undefined
  }

  get pending() {
    return { stdout: this.#lines.pending, stderr: this.#stderrText.pending }
  }

  get resultAt(): number | undefined {
    return this.#background.size === 0 ? this.#idleSince : undefined
  }

  async push(stream: 'stdout' | 'stderr', data: Buffer): Promise<NewEvent[]> {
    return stream === 'stderr' ? this.#printed(this.#stderrText.push(data)) : this.#read(this.#lines.push(data))
  }

  async cut(): Promise<NewEvent[]> {
    return [...(await this.#read(this.#lines.cut())), ...this.#printed(this.#stderrText.end())]
  }

  async end(): Promise<NewEvent[]> {
    return [...(await this.#read(this.#lines.end())), ...this.#printed(this.#stderrText.end())]
  }

  state(): ClaudeState {
    return {
      isCut: this.#lines.isCut,
      stderr: this.#stderr.text,
      background: [...this.#background],
      result: this.#result,
      isIdle: this.#idleSince !== undefined,
    }
  }

  outcome(exit: ExecExit): AgentOutcome {
    return claudeOutcome(this.#start, exit, this.#result, this.#stderr)
  }

  close(): Promise<void> {
    return this.#lineParser.close()
  }

  #printed(text: string): NewEvent[] {
    this.#stderr.push(text)
    return text === '' ? [] : [{ type: 'stderr', text }]
  }

  async #read(lines: Line[]): Promise<NewEvent[]> {
    const events: NewEvent[] = []
    for (const line of lines) {
      if (line.isCut) {
        events.push(cutLine(line))
        continue
      }
      const reading = await this.#lineParser.parse(line.bytes)
      for (const event of reading.events) events.push(event)
      for (const fact of reading.facts) this.#note(fact)
    }
    return events
  }

  #note(fact: Fact): void {
    if (fact.kind === 'working') {
      this.#idleSince = undefined
    } else if (fact.kind === 'result') {
      this.#result = { ...fact, text: fact.text.slice(-RESULT_CHARS) }
      this.#idleSince = performance.now()
    } else if (fact.open) {
      if (this.#background.size < MAX_BACKGROUND) this.#background.add(fact.taskId)
    } else if (this.#background.delete(fact.taskId) && this.#idleSince !== undefined) {
      this.#idleSince = performance.now()
    }
  }
}

function cutLine({ bytes }: Line): NewEvent {
  const start = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
  return { type: 'raw', text: `${start} [Vivarium: this line is too long; its first ${bytes.length} bytes are kept]` }
}
