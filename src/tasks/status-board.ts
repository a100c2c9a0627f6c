import type { TaskStatus } from '../contracts/task.ts'
import type { Recorder } from './recorder.ts'
import type { TaskChange, TaskStore } from './task-store.ts'

/** Why a task can't go on, in words for people, and until when, where that is known. */
export interface Halt {
  message: string
  until: Date | null
}

/**
 * What a running task's status is shown as, in its row and its log, in order: the row first, then the event, so that who has
 * seen the event finds the row at least as far. A task that is halted shows as `waiting`, whatever it is in the middle of.
 */
export class StatusBoard {
  readonly #taskId: string
  readonly #attempts: number
  readonly #store: TaskStore
  readonly #recorder: Recorder
  #status: TaskStatus = 'queued'
  #halt: Halt | undefined
  #machineId: string | undefined
  #written: Promise<void> = Promise.resolve()

  constructor({ id, attempts }: { id: string; attempts: number }, store: TaskStore, recorder: Recorder) {
    this.#taskId = id
    this.#attempts = attempts
    this.#store = store
    this.#recorder = recorder
  }

  /** The task enters `status`. Rejects with `storage_failed`. */
  enter(status: TaskStatus): Promise<void> {
    this.#status = status
    return this.#halt === undefined ? this.#show({ status }) : this.#written
  }

  /** The task starts, or starts again, on this machine. Rejects with `storage_failed`. */
  start(machineId: string): Promise<void> {
    this.#machineId = machineId
    const first = this.#status === 'queued'
    this.#status = 'starting'
    if (!first) return this.#store.update(this.#taskId, { vmId: machineId })
    const startedAt = new Date().toISOString()
    return this.#show({ status: 'starting', startedAt, vmId: machineId, attempts: this.#attempts })
  }

  /** The task is in `status` on this machine already, as another orchestrator has stored and told. */
  goOn(status: TaskStatus, machineId: string): void {
    this.#status = status === 'waiting' ? 'running' : status
    this.#machineId = machineId
  }

  /** A step of the start begins; `message` is for people. */
  step(phase: string, message: string): void {
    this.#recorder.note({ type: 'status', status: 'starting', phase, message, ...this.#machine() })
  }

  /** The task can't go on; undefined: it can again. Rejects with `storage_failed`. */
  halt(halt: Halt | undefined): Promise<void> {
    const { message } = halt ?? {}
    if (message === this.#halt?.message && halt?.until?.getTime() === this.#halt?.until?.getTime()) return this.#written
    this.#halt = halt
    if (halt === undefined) return this.#show({ status: this.#status, waitingUntil: null })
    return this.#show({ status: 'waiting', waitingUntil: halt.until?.toISOString() ?? null }, message)
  }

  #show(change: TaskChange & { status: TaskStatus }, message?: string): Promise<void> {
    const { status } = change
    const write = async () => {
      await this.#store.update(this.#taskId, change)
      const words = message === undefined ? {} : { message }
      await this.#recorder.write([{ type: 'status', status, ...words, ...this.#machine() }])
    }
    const written = this.#written.then(write)
    this.#written = written.catch(() => {}) // its caller hears of it; what comes after is tried all the same
    return written
  }

  #machine(): { vmId?: string } {
    return this.#machineId === undefined ? {} : { vmId: this.#machineId }
  }
}
