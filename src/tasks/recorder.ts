import type { NewEvent } from '../contracts/event.ts'
import type { Checkpoint, EventWriter } from '../events/types.ts'

/** Writes that may be under way before the next one waits: enough to fill a group commit, few enough to bound memory. */
const MAX_WRITES = 8

/** Notes that may wait in memory; a guest can cause them faster than a disk takes them. */
const MAX_NOTES = 1000

/**
 * One run's events on their way into the log, in the order of calls. Everything of a run goes through its own recorder, so
 * that two tasks can't mix. Never rejects: what could not be stored is told once to `onFailure`, whose matter it is to end the
 * run, while the files of a run whose log is broken can still be brought back.
 */
export class Recorder {
  readonly #writer: EventWriter
  readonly #onFailure: (error: unknown) => void
  readonly #underWay = new Set<Promise<void>>()
  #notes = 0
  #dropped = 0

  /** Called with checkpoints that are stored. */
  onStored: (checkpoint: Checkpoint) => void = () => {}

  constructor(open: (onStored: (checkpoint: Checkpoint) => void) => EventWriter, onFailure: (error: unknown) => void) {
    this.#writer = open((checkpoint) => this.onStored(checkpoint))
    this.#onFailure = onFailure
  }

  /** Takes events, and how far their source was read with them; resolves when there is room for more. */
  async write(events: NewEvent[], checkpoint?: Checkpoint): Promise<void> {
    if (events.length > 0 || checkpoint !== undefined) void this.#send(this.#writer.write(events, checkpoint))
    while (this.#underWay.size >= MAX_WRITES) await Promise.race(this.#underWay)
  }

  /** Takes an event from a callback that can't wait. Beyond a bound it is dropped and counted. */
  note(event: NewEvent): void {
    if (this.#notes >= MAX_NOTES) this.#dropped += 1
    else void this.#sendNote(event)
  }

  async log(level: 'debug' | 'info' | 'warn' | 'error', message: string, data?: unknown): Promise<void> {
    await this.write([{ type: 'log', level, message, ...(data === undefined ? {} : { data }) }])
  }

  /** Resolves when everything taken so far is stored, checkpoints too. */
  async flush(): Promise<void> {
    if (this.#dropped > 0) {
      const message = `${this.#dropped} records of connections and usage came too fast and were left out`
      this.#dropped = 0
      await this.log('warn', message)
    }
    await Promise.all(this.#underWay)
    await this.#send(this.#writer.flush())
  }

  async #sendNote(event: NewEvent): Promise<void> {
    this.#notes += 1
    await this.#send(this.#writer.write([event]))
    this.#notes -= 1
  }

  async #send(written: Promise<void>): Promise<void> {
    const settled = written.catch(this.#onFailure)
    this.#underWay.add(settled)
    await settled
    this.#underWay.delete(settled)
  }
}
