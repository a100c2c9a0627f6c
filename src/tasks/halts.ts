import type { MachineInfo } from '../contracts/machine.ts'
import type { Machines } from '../machines/types.ts'
import type { Logger } from '../telemetry/types.ts'
import type { RunClock } from './run-clock.ts'
import type { Halt, StatusBoard } from './status-board.ts'

/** A hold that ends sooner is not worth a suspension. */
const WORTH_SUSPENDING_MS = 2 * 60_000

const MAX_TIMER_MS = 24 * 60 * 60_000

const ASLEEP: Halt = { message: 'The machine is suspended; the task goes on when it is resumed', until: null }
/** Of a machine that is taken up after a restart of the server: it has not slept. */
const AWAKENING: Halt = { message: 'The machine is on its way back', until: null }

export interface HaltsOptions {
  taskId: string
  machines: Machines
  clock: RunClock
  board: StatusBoard
  /** Stores how the clock stands, after each change; never rejects. */
  saveClock: () => void
  /** Stores when the suspended machine is to go on by itself; never rejects. */
  saveWakeAt: (at: Date | null) => Promise<void>
  log: Logger
}

/**
 * A task's stops on its way: its machine is suspended by somebody, or its model requests are held until a limit is over, for
 * which its machine may as well be suspended. Meanwhile the task shows as `waiting` and its clock stands still.
 */
export class Halts implements Disposable {
  readonly #options: HaltsOptions
  readonly #cleanup = new DisposableStack()
  #machineId: string | undefined
  /** While its machine sleeps, or is not yet back. */
  #sleep: Halt | undefined
  #hold: Halt | undefined
  #isHeldBack = false
  /** Why its guest stands still. */
  #stalled: string | undefined
  /** We suspend the machine because of the hold, or have. */
  #isNapping = false
  #suspended: Promise<void> = Promise.resolve()
  /** Nothing is suspended or resumed any more for a hold. */
  #isOver = false
  #isDisposed = false

  constructor(options: HaltsOptions) {
    this.#options = options
  }

  /** The machine that the task uses has changed. */
  machineChanged({ id, state, stalled }: MachineInfo): void {
    if (this.#isDisposed) return // the next one's, perhaps
    this.#machineId = id
    const isAsleep = state === 'suspending' || state === 'suspended'
    const sleep = isAsleep ? ASLEEP : state === 'resuming' ? (this.#sleep ?? AWAKENING) : undefined
    if (sleep === undefined && state !== 'ready') return
    if (this.#sleep !== undefined && sleep === undefined) this.#isNapping = false
    this.#sleep = sleep
    this.#stalled = stalled
    this.#show()
  }

  /** The gateway holds the task's model requests, or lets them go on; it says the latter also while the machine sleeps. */
  held(hold: { until: Date; message: string } | null): void {
    if (this.#isOver) return
    this.#hold = hold ?? undefined
    this.#show()
    if (hold === null) void this.#getUp()
    else this.#rest(hold.until)
  }

  /** The machine was suspended by an orchestrator before, until `at`. */
  sleepUntil(at: Date): void {
    this.#isNapping = true
    this.#hold = { message: 'The machine sleeps until the task can go on', until: at }
    this.#show()
    const timer = setTimeout(() => this.held(null), Math.min(Math.max(0, at.getTime() - Date.now()), MAX_TIMER_MS))
    this.#cleanup.defer(() => clearTimeout(timer))
  }

  /** The host's disk takes nothing, or takes it again: what the task says can't be stored, so it can't go on. */
  heldBack(isHeldBack: boolean): void {
    this.#isHeldBack = isHeldBack
    this.#show()
  }

  /** Lets a suspended machine go on, for a task that is to end; it is not suspended again before. Never rejects. */
  async wake(signal: AbortSignal): Promise<void> {
    this.#isOver = true
    if (this.#sleep !== undefined || this.#isNapping) await this.#lease(signal)
    this.#hold = undefined
    this.#show()
  }

  [Symbol.dispose](): void {
    this.#isOver = true
    this.#isDisposed = true
    this.#cleanup.dispose()
  }

  /** Suspends the machine for a hold that is long enough, where the engine can. */
  #rest(until: Date): void {
    if (until.getTime() - Date.now() < WORTH_SUSPENDING_MS || this.#machineId === undefined) return
    if (this.#sleep !== undefined || this.#isNapping) return
    this.#isNapping = true
    this.#suspended = this.#suspend(this.#machineId, until)
  }

  async #suspend(machineId: string, until: Date): Promise<void> {
    const { machines, saveWakeAt, log, taskId } = this.#options
    try {
      await saveWakeAt(until)
      await machines.suspend(machineId)
    } catch (error) {
      this.#isNapping = false // it waits awake
      await saveWakeAt(null)
      log.debug({ err: error, taskId }, 'a held task keeps its memory')
    }
  }

  async #getUp(): Promise<void> {
    const { machines, saveWakeAt, log, taskId } = this.#options
    await this.#suspended
    if (!this.#isNapping || this.#hold !== undefined || this.#machineId === undefined) return
    try {
      await machines.resume(this.#machineId)
      await saveWakeAt(null)
    } catch (error) {
      log.error({ err: error, taskId }, 'a suspended machine could not be resumed')
    }
  }

  async #lease(signal: AbortSignal): Promise<void> {
    const { machines, log, taskId } = this.#options
    try {
      const lease = await machines.lease(this.#machineId ?? '', signal)
      this.#cleanup.defer(() => lease[Symbol.dispose]())
    } catch (error) {
      // What follows finds the machine out of reach, and says so.
      log.warn({ err: error, taskId }, 'a suspended machine could not be resumed')
    }
  }

  /** A task that is to end is not held by it: its limits say for how long its files are waited for. */
  #standstill(): Halt | undefined {
    return this.#stalled === undefined || this.#isOver ? undefined : { message: this.#stalled, until: null }
  }

  #show(): void {
    const { board, clock, saveClock, log, taskId } = this.#options
    const halt = this.#hold ?? this.#sleep ?? this.#standstill()
    if (halt === undefined && !this.#isHeldBack) clock.go()
    else clock.stop()
    saveClock()
    board.halt(halt).catch((error: unknown) => log.error({ err: error, taskId }, 'status could not be stored'))
  }
}
