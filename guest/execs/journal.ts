import { existsSync, openSync, readFileSync, writeSync } from 'node:fs'

/**
 * Which execs were ever started, also by an agent before this one, so that none is run again that is only asked for again. A file of
 * lines, to which each start adds one: making a file for each takes the kernel several times as long.
 */
export class ExecJournal {
  readonly #ids: Set<string>
  readonly #fd: number

  /** `path` is of no other agent that runs. */
  constructor(path: string) {
    this.#ids = existsSync(path) ? read(path) : new Set()
    this.#fd = openSync(path, 'a')
  }

  has(id: string): boolean {
    return this.#ids.has(id)
  }

  /** Notes that an exec is started. Throws where it cannot be written down. */
  add(id: string): void {
    writeSync(this.#fd, `+${id}\n`)
    this.#ids.add(id)
  }

  /** Nothing was started: the same id may be tried again. */
  remove(id: string): void {
    this.#ids.delete(id)
    writeSync(this.#fd, `-${id}\n`)
  }
}

function read(path: string): Set<string> {
  const ids = new Set<string>()
  for (const line of readFileSync(path, 'latin1').split('\n')) {
    if (line.startsWith('+')) ids.add(line.slice(1))
    else ids.delete(line.slice(1))
  }
  return ids
}
