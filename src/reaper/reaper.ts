import type { Leak } from '../contracts/server.ts'
import type { Logger } from '../telemetry/types.ts'
import type { FindLeaks, FoundLeak } from './types.ts'

export interface ReaperOptions {
  sources: readonly FindLeaks[]
  everyMs: number
  log: Logger
}

interface Known {
  since: string
  /** It was said that it can't be removed. */
  isReported: boolean
}

/**
 * Looks for leaks again and again, and removes what it has found twice in a row: whatever a look in the middle of somebody's
 * work might mistake for a leak is none a minute later. What can't be removed is said once, and tried again each time.
 */
export class Reaper implements AsyncDisposable {
  readonly #options: ReaperOptions
  readonly #known = new Map<string, Known>()
  readonly #failing = new Set<FindLeaks>()
  #timer: NodeJS.Timeout | undefined
  #sweep: Promise<void> = Promise.resolve()
  #isClosed = false

  constructor(options: ReaperOptions) {
    this.#options = options
  }

  /** Removes what there is now, when nothing of this process is under way yet, and looks from now on. */
  async begin(): Promise<void> {
    await this.sweep()
    await this.sweep()
    this.#schedule()
  }

  /** Looks once; removes what was there the last time, too. Never rejects. */
  async sweep(): Promise<void> {
    const found = await this.#find()
    for (const key of this.#known.keys()) if (!found.has(key)) this.#known.delete(key)
    for (const [key, leak] of found) {
      if (this.#isClosed) return
      const known = this.#known.get(key)
      if (known === undefined) this.#known.set(key, { since: new Date().toISOString(), isReported: false })
      else if (await this.#remove(leak, known)) this.#known.delete(key)
    }
  }

  /** What there is now. */
  async leaks(): Promise<Leak[]> {
    const now = new Date().toISOString()
    return [...(await this.#find())].map(([key, { kind, what, why }]) => ({
      kind,
      what,
      why,
      since: this.#known.get(key)?.since ?? now,
    }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    await this.#sweep
  }

  #schedule(): void {
    if (this.#isClosed) return
    const look = () => {
      this.#sweep = this.sweep().finally(() => this.#schedule())
    }
    this.#timer = setTimeout(look, this.#options.everyMs).unref()
  }

  async #find(): Promise<Map<string, FoundLeak>> {
    const found = await Promise.all(this.#options.sources.map((source) => this.#ask(source)))
    return new Map(found.flat().map((leak) => [`${leak.kind} ${leak.what}`, leak]))
  }

  /** A source that fails keeps the others from nothing; it is said when it begins to. */
  async #ask(source: FindLeaks): Promise<FoundLeak[]> {
    try {
      const found = await source()
      this.#failing.delete(source)
      return found
    } catch (err) {
      if (!this.#failing.has(source)) this.#options.log.warn({ err }, 'leftovers could not be looked for')
      this.#failing.add(source)
      return []
    }
  }

  async #remove({ kind, what, why, remove }: FoundLeak, known: Known): Promise<boolean> {
    const { log } = this.#options
    try {
      await remove()
      log.warn({ kind, what, why }, 'removed what nobody owned any more')
      return true
    } catch (err) {
      if (!known.isReported) log.error({ err, kind, what, why }, 'what nobody owns any more could not be removed')
      known.isReported = true
      return false
    }
  }
}
