import type { Failure } from '../contracts/errors.ts'
import type { ExecExit } from '../link/types.ts'

/** The end of a text that may be long, kept while it is printed. */
export class Tail {
  #text: string
  readonly #maxChars: number

  constructor(maxChars: number, text = '') {
    this.#maxChars = maxChars
    this.#text = text
  }

  push(text: string): void {
    this.#text = (this.#text + text).slice(-this.#maxChars)
  }

  get text(): string {
    return this.#text
  }

  /** The last few non-empty lines on one line, for error messages. */
  brief(): string {
    const lines = this.#text.split('\n').map((line) => line.trim())
    return lines
      .filter((line) => line !== '')
      .slice(-5)
      .join(' | ')
      .slice(-1000)
  }
}

/** Words for how a process ended, e.g. `ended with exit code 2`. */
export function describeExit(exit: ExecExit): string {
  if (exit.signal !== null) return `was ended by ${exit.signal}`
  return `ended with exit code ${exit.code ?? 'unknown'}`
}

/** The failure of a process that ended badly, with the last it said on stderr. */
export function exitFailure(who: string, exit: ExecExit, stderr: Tail): Failure {
  if (exit.outOfMemory) {
    const message = `${who} ${describeExit(exit)} after the machine ran out of memory. Give the task more memory (memoryMib) or less to do at once.`
    return { code: 'out_of_memory', message }
  }
  const said = stderr.brief()
  const message = `${who} ${describeExit(exit)}${said === '' ? ' and said nothing on stderr.' : `: ${said}`}`
  return { code: 'agent_failed', message }
}
