import { ClockJumps, type ClockReading } from '../clock/clock-jumps.ts'
import type { Logger } from '../telemetry/types.ts'
import type { Machine } from './types.ts'

const LOOK_MS = 5000
/** What the host's own time service may correct without a word. */
const TOLERANCE_MS = 2000
const HELLO_DEADLINE_MS = 10_000

export interface ClockKeeperOptions {
  /** Machines whose guests run. */
  machines: () => Iterable<Machine>
  log: Logger
  read?: () => ClockReading
}

/** A guest takes over the host's clock with each hello: when that was set, or the host has slept, it is greeted again. */
export class ClockKeeper implements Disposable {
  readonly #options: ClockKeeperOptions
  readonly #jumps: ClockJumps
  readonly #timer: NodeJS.Timeout

  constructor(options: ClockKeeperOptions) {
    this.#options = options
    this.#jumps = new ClockJumps(options.read)
    this.#timer = setInterval(() => void this.look(), LOOK_MS).unref()
  }

  /** Resolves when every guest has been told, or could not be. */
  async look(): Promise<void> {
    const jumpMs = this.#jumps.look()
    if (Math.abs(jumpMs) <= TOLERANCE_MS) return
    const { machines, log } = this.#options
    log.warn({ seconds: Math.round(jumpMs / 1000) }, "the host's clock has jumped; guests are told the time")
    await Promise.all([...machines()].map((machine) => this.#greet(machine)))
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  async #greet({ id, link, timeScale }: Machine): Promise<void> {
    try {
      await link.hello({ hostname: id.replace('_', '-') }, AbortSignal.timeout(HELLO_DEADLINE_MS * timeScale))
    } catch (err) {
      // It goes on with the wrong time, until its next hello; one that is lost is noticed elsewhere.
      this.#options.log.warn({ err, machineId: id }, 'a guest could not be told the time')
    }
  }
}
