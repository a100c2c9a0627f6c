import type { MachineInfo } from '../contracts/machine.ts'
import type { Machines } from '../machines/types.ts'
import type { Logger } from '../telemetry/types.ts'
import type { RunClock } from './run-clock.ts'
import type { Halt, StatusBoard } from './status-board.ts'
import { timer } from './waiting.ts'

/** A hold that ends sooner is not worth a suspension. */
const WORTH_SUSPENDING_MS = 2 * 60_000

/** Timers of Node count no further; a longer one is set again. */
const MAX_TIMER_MS = 2 ** 31 - 1

const ASLEEP: Halt = { message: 'The machine is suspended; the task goes on when it is resumed', until: null }

export interface HaltsOptions {
  taskId: string
  machines: Machines
  clock: RunClock
  board: StatusBoard
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
  #isAsleep = false
  #hold: Halt | undefined
  /** We suspend the machine, or have, because of the hold; its timer wakes it. */
  #nap: DisposableStack | undefined
  #isOver = false

  constructor(options: HaltsOptions) {
    this.#options = options
  }

  /** The machine that the task uses has changed. */
  machineChanged({ id, state }: MachineInfo): void {
    this.#machineId = id
    const isAsleep = state === 'suspending' || state === 'suspended' || state === 'resuming'
    if (!isAsleep && state !== 'ready') return
    if (this.#isAsleep && !isAsleep) this.#endNap()
    this.#isAsleep = isAsleep
    this.#show()
  }

  /** The gateway holds the task's model requests, or lets them go on. */
  held(hold: { until: Date; message: string } | null): void {
    // While the machine sleeps its requests are gone with their connections, which is not what we wait for.
    if (this.#isOver || (hold === null && this.#nap !== undefined)) return
    this.#hold = hold ?? undefined
    this.#show()
    if (hold !== null && this.#nap === undefined) void this.#rest(hold.until)
  }

  /** Lets a suspended machine go on, for a task that is to end; it is not suspended again before. Never rejects. */
  async wake(signal: AbortSignal): Promise<void> {
    const { machines, log, taskId } = this.#options
    const wasAsleep = this.#isAsleep || this.#nap !== undefined
    this.#isOver = true
    this.#endNap()
    if (!wasAsleep || this.#machineId === undefined) return
    try {
      const lease = await machines.lease(this.#machineId, signal)
      this.#cleanup.defer(() => lease[Symbol.dispose]())
    } catch (error) {
      // What follows finds the machine out of reach, and says so.
      log.warn({ err: error, taskId }, 'a suspended machine could not be resumed')
    }
  }

  [Symbol.dispose](): void {
    this.#isOver = true
    this.#nap?.dispose()
    this.#cleanup.dispose()
  }

  /** Suspends the machine for a hold that is long enough, where the engine can, and sets its alarm. */
  async #rest(until: Date): Promise<void> {
    const { machines, log, taskId } = this.#options
    if (until.getTime() - Date.now() < WORTH_SUSPENDING_MS || this.#machineId === undefined || this.#isAsleep) return
    const nap = new DisposableStack()
    this.#nap = nap
    try {
      const { capabilities } = await machines.engine()
      if (!capabilities.snapshots) throw new Error('the engine can not')
      await machines.suspend(this.#machineId)
      if (this.#nap === nap) this.#setAlarm(nap, until)
    } catch (error) {
      if (this.#nap === nap) this.#nap = undefined // the task waits awake
      log.debug({ err: error, taskId }, 'a held task keeps its memory')
    }
  }

  #setAlarm(nap: DisposableStack, until: Date): void {
    const ms = until.getTime() - Date.now()
    if (ms > MAX_TIMER_MS) nap.use(timer(MAX_TIMER_MS, () => this.#setAlarm(nap, until)))
    else nap.use(timer(Math.max(0, ms), () => void this.#getUp()))
  }

  async #getUp(): Promise<void> {
    const { machines, log, taskId } = this.#options
    if (this.#machineId === undefined) return
    try {
      await machines.resume(this.#machineId)
    } catch (error) {
      log.error({ err: error, taskId }, 'a suspended machine could not be resumed')
    }
  }

  /** The machine is awake: whoever still has to wait will be told so by the gateway when it asks again. */
  #endNap(): void {
    if (this.#nap === undefined) return
    this.#nap.dispose()
    this.#nap = undefined
    this.#hold = undefined
  }

  #show(): void {
    const { board, clock, log, taskId } = this.#options
    const halt = this.#hold ?? (this.#isAsleep ? ASLEEP : undefined)
    if (halt === undefined) clock.go()
    else clock.stop()
    board.halt(halt).catch((error: unknown) => log.error({ err: error, taskId }, 'status could not be stored'))
  }
}
