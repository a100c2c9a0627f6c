import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { readAsset } from '../assets.ts'
import type { LineReading } from './claude-events.ts'
import { parseLine, rawLine } from './parse-line.ts'

export interface LineParserOptions {
  /** Lines longer than this are parsed in a worker. */
  inlineBytes: number
  /** A worker that takes longer is ended. */
  deadlineMs: number
  /** Heap of the worker: far above what a line within its bounds takes, see `json-bounds.ts`. */
  heapMib: number
}

const DEFAULTS: LineParserOptions = { inlineBytes: 1024 * 1024, deadlineMs: 10_000, heapMib: 512 }

/** Above this an inline parse takes long enough that others get a turn before the next line. */
const BRIEF_BYTES = 64 * 1024

/**
 * Parses the lines of one run, one at a time. A line of 32 MiB keeps a thread busy for a good part of a second (seconds, were it not
 * measured before it is parsed), so long lines go to a worker with a heap limit and a deadline; one that breaks them is kept as `raw`.
 */
export class LineParser {
  readonly #options: LineParserOptions
  #worker: Worker | undefined

  constructor(options: Partial<LineParserOptions> = {}) {
    this.#options = { ...DEFAULTS, ...options }
  }

  async parse(bytes: Buffer): Promise<LineReading> {
    if (bytes.length > this.#options.inlineBytes) return this.#parseInWorker(bytes)
    const reading = parseLine(bytes)
    if (bytes.length > BRIEF_BYTES) await new Promise((resolve) => setImmediate(resolve))
    return reading
  }

  async #parseInWorker(bytes: Buffer): Promise<LineReading> {
    const worker = (this.#worker ??= this.#start())
    try {
      worker.postMessage(bytes)
      const signal = AbortSignal.timeout(this.#options.deadlineMs)
      // `once` rejects on the worker's `error` event too, which is how a broken heap limit shows.
      const [reading] = (await once(worker, 'message', { signal })) as [LineReading]
      return reading
    } catch {
      // Too slow or too large: the line itself is kept, and the next one gets a new worker. Nobody waits for the end of the
      // old one, which comes when it next runs JavaScript.
      void this.close()
      return rawLine(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes))
    }
  }

  #start(): Worker {
    const source = readAsset('workers/parse-line.mjs').toString('utf8')
    const resourceLimits = { maxOldGenerationSizeMb: this.#options.heapMib, stackSizeMb: 4 }
    const worker = new Worker(source, { eval: true, env: {}, resourceLimits })
    // A worker may also break while no line waits for it; the next line then finds out by its deadline.
    worker.on('error', () => {})
    worker.unref()
    return worker
  }

  /** Ends the worker. */
  async close(): Promise<void> {
    const worker = this.#worker
    this.#worker = undefined
    await worker?.terminate()
  }
}
