import type { NewEvent } from '../contracts/event.ts'
import type { ExecExit } from '../link/types.ts'
import type { Fact } from './claude-events.ts'
import type { ResultFact } from './claude-outcome.ts'
import { claudeOutcome } from './claude-outcome.ts'
import { Tail } from './failures.ts'
import type { LineParserOptions } from './line-parser.ts'
import { LineParser } from './line-parser.ts'
import type { Line } from './line-splitter.ts'
import { LineSplitter } from './line-splitter.ts'
import type { AgentOutcome, AgentParser, AgentStart } from './types.ts'

/** Work in the background beyond this many is not kept track of; a run has a handful. */
const MAX_BACKGROUND = 1000

/** Turns the stream-json output of one Claude Code run into events. Output after a result is kept; the last result counts. */
export class ClaudeParser implements AgentParser {
  readonly #start: AgentStart
  readonly #lines = new LineSplitter()
  readonly #lineParser: LineParser
  readonly #stderrDecoder = new TextDecoder('utf-8', { ignoreBOM: true })
  readonly #stderr = new Tail(4000)
  readonly #background = new Set<string>()
  #result: ResultFact | undefined
  #idleSince: number | undefined

  constructor(start: AgentStart, options: Partial<LineParserOptions> = {}) {
    this.#start = start
    this.#lineParser = new LineParser(options)
  }

  get resultAt(): number | undefined {
    return this.#background.size === 0 ? this.#idleSince : undefined
  }

  async push(stream: 'stdout' | 'stderr', data: Buffer): Promise<NewEvent[]> {
    return stream === 'stderr'
      ? this.#printed(this.#stderrDecoder.decode(data, { stream: true }))
      : this.#read(this.#lines.push(data))
  }

  async end(): Promise<NewEvent[]> {
    return [...(await this.#read(this.#lines.end())), ...this.#printed(this.#stderrDecoder.decode())]
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
      if (line.dropped > 0) {
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
      this.#result = fact
      this.#idleSince = performance.now()
    } else if (fact.open) {
      if (this.#background.size < MAX_BACKGROUND) this.#background.add(fact.taskId)
    } else if (this.#background.delete(fact.taskId) && this.#idleSince !== undefined) {
      this.#idleSince = performance.now()
    }
  }
}

function cutLine(line: Line): NewEvent {
  const start = new TextDecoder('utf-8', { ignoreBOM: true }).decode(line.bytes)
  const bytes = line.bytes.length + line.dropped
  return {
    type: 'raw',
    text: `${start} [Vivarium: this line had ${bytes} bytes, its first ${line.bytes.length} are kept]`,
  }
}
