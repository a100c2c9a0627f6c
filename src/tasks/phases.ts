import type { Phase } from '../contracts/task.ts'

/** Where the time of one run goes: of the start, as its machine tells it, then of the work. */
export class Phases {
  #start: Phase[] = []
  readonly #own: Phase[]

  /** `before`: of the same run, as another orchestrator has known it. */
  constructor(before: Phase[] = []) {
    this.#own = [...before]
  }

  /** The steps of the machine's start so far. Returns the names of those that are new. */
  started(phases: Phase[]): string[] {
    const fresh = phases.slice(this.#start.length).map(({ name }) => name)
    this.#start = phases
    return fresh
  }

  add(name: string, ms: number): void {
    this.#own.push({ name, ms: Math.round(ms) })
  }

  async timed<Result>(name: string, action: () => Promise<Result>): Promise<Result> {
    const begun = performance.now()
    try {
      return await action()
    } finally {
      this.add(name, performance.now() - begun)
    }
  }

  toJSON(): Phase[] {
    return [...this.#start, ...this.#own]
  }
}
