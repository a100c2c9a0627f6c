import { access, constants, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { VivariumError } from '../contracts/errors.ts'
import type { Logger } from '../telemetry/types.ts'
import { mayPass } from './passing.ts'
import type { Storage } from './types.ts'

const MIB = 1024 * 1024

/** From one attempt to the next: the first pause, doubled each time, and the longest. */
const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 5000

/** How often the folder is looked at when nobody writes. */
const LOOK_MS = 5000

export interface DataFolderOptions {
  /** The data folder, which is there. */
  home: string
  /** Name of a file in it that stays the same while we run. */
  anchor: string
  /** With less than this free, nothing new is begun. */
  minFreeBytes: number
  /** How long a write is tried. */
  patienceMs: number
  log: Logger
}

export type DataFolder = Storage & Disposable

/** Watches a data folder: the one place that knows whether its disk takes what is written. */
export async function openDataFolder(options: DataFolderOptions): Promise<DataFolder> {
  const { ino } = await stat(join(options.home, options.anchor))
  return new WatchedFolder(options, ino)
}

class WatchedFolder implements DataFolder {
  readonly #options: DataFolderOptions
  /** A folder that was put in the place of ours is not ours: SQLite goes on writing to files that have no name any more. */
  readonly #inode: number
  readonly #listeners = new Set<() => void>()
  readonly #hurry = new AbortController()
  readonly #timer: NodeJS.Timeout
  /** Writes that wait for their next attempt. */
  #waiting = 0
  #problem: string | undefined
  #isAway = false

  constructor(options: DataFolderOptions, inode: number) {
    this.#options = options
    this.#inode = inode
    this.#timer = setInterval(() => void this.problem(), LOOK_MS).unref()
  }

  get lastProblem(): string | undefined {
    return this.#problem
  }

  get holdsBack(): boolean {
    return this.#waiting > 0
  }

  async problem(): Promise<string | undefined> {
    const seen = await this.#look()
    // What a write met counts until that write has been made, whatever the folder looks like.
    if (this.#waiting === 0 || this.#problem === undefined) this.#is(seen)
    return this.#problem
  }

  async persist<Result>(work: () => Promise<Result>): Promise<Result> {
    const { patienceMs } = this.#options
    const deadline = performance.now() + patienceMs
    using stack = new DisposableStack()
    for (let pauseMs = FIRST_PAUSE_MS, isFirst = true; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      try {
        if (!isFirst || this.#isAway) await this.#requirePresence()
        return await work()
      } catch (error) {
        const isLast = this.#hurry.signal.aborted || performance.now() + pauseMs > deadline
        if (isLast || !(this.#isAway || mayPass(error))) throw error
        if (isFirst) stack.use(this.#wait(error))
        isFirst = false
      }
      await sleep(pauseMs, undefined, { signal: this.#hurry.signal }).catch(() => {}) // the last attempt follows
    }
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  hurry(): void {
    this.#hurry.abort()
  }

  [Symbol.dispose](): void {
    this.hurry()
    clearInterval(this.#timer)
  }

  /** A write waits until the answer is disposed of. */
  #wait(error: unknown): Disposable {
    const { home } = this.#options
    const why = error instanceof Error ? error.message : String(error)
    this.#waiting += 1
    this.#is(
      `The data folder ${home} can't be written: ${why}. What runs is held back until it can; make room, or mend the disk.`,
    )
    if (this.#waiting === 1) this.#tell()
    return {
      [Symbol.dispose]: () => {
        this.#waiting -= 1
        if (this.#waiting > 0) return
        this.#is(undefined)
        this.#tell()
      },
    }
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }

  /** The log hears of a change once. */
  #is(problem: string | undefined): void {
    const before = this.#problem
    this.#problem = problem
    const { log, home } = this.#options
    if (before === undefined && problem !== undefined) log.error({ home }, problem)
    if (before !== undefined && problem === undefined) log.info({ home }, 'the data folder can be written again')
    if ((before === undefined) !== (problem === undefined)) this.#tell()
  }

  async #look(): Promise<string | undefined> {
    const { home, minFreeBytes } = this.#options
    try {
      await this.#requirePresence()
      await access(home, constants.W_OK)
      const { bavail, bsize } = await statfs(home)
      const free = bavail * bsize
      if (free >= minFreeBytes) return undefined
      return `The disk of the data folder ${home} is full: ${Math.floor(free / MIB)} MiB are free, ${Math.ceil(minFreeBytes / MIB)} are needed. Make room; nothing has to be restarted.`
    } catch (error) {
      if (error instanceof VivariumError) return error.message
      const why = error instanceof Error ? error.message : String(error)
      return `The data folder ${home} can't be written: ${why}. Mend that; nothing has to be restarted.`
    }
  }

  /** Throws where another folder, or none, is in the place of ours. */
  async #requirePresence(): Promise<void> {
    const { home, anchor } = this.#options
    const found = await stat(join(home, anchor)).catch(() => undefined)
    this.#isAway = found?.ino !== this.#inode
    if (!this.#isAway) return
    throw new VivariumError(
      'storage_failed',
      `The data folder ${home} is gone, or another one is in its place: put it back where it was, or restart the server.`,
    )
  }
}
