import type { TaskStatus } from '../contracts/task.ts'
import { isFinal } from '../contracts/task.ts'
import type { EventLog } from '../events/types.ts'
import { NOBODY } from '../machines/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { blobKeys } from './blob-keys.ts'
import { KeptMachines } from './kept-machines.ts'
import type { RunServices } from './run.ts'
import { runTask } from './runner.ts'
import { Scheduler } from './scheduler.ts'
import { reasonOf, StopSwitch } from './stop.ts'
import type { StoredRequest } from './task-store.ts'
import type { Ending } from './verdict.ts'
import { pause } from './waiting.ts'

export interface LifecycleServices extends Omit<RunServices, 'kept'> {
  events: EventLog
}

export interface TaskIdentity {
  id: string
  userId: string
  request: StoredRequest
}

/** A task that is not final. */
interface ActiveTask extends TaskIdentity {
  stop: StopSwitch
  /** Resolves when the task is final: its last event stored, its row done. */
  done: PromiseWithResolvers<void>
  /** Its last event is being stored and its row is not yet done. */
  isSettling: boolean
}

const EVENTS_AT_ONCE = 1000

const NOTHING_RAN = { exitCode: null, result: null, turns: 0 } as const

/** Takes every task from its queue to its end. What a task consists of is in its `ActiveTask` and its run, never shared. */
export class Lifecycle implements AsyncDisposable {
  readonly #services: LifecycleServices & RunServices
  /** Machines that outlive their tasks. */
  readonly kept: KeptMachines
  readonly #scheduler: Scheduler
  readonly #active = new Map<string, ActiveTask>()
  readonly #hurry = new AbortController()
  readonly #unwatch: () => void

  constructor(services: LifecycleServices) {
    const { machines, settings, log } = services
    this.kept = new KeptMachines(machines, log)
    this.#services = { ...services, kept: this.kept }
    this.#scheduler = new Scheduler({
      totalMemoryMib: settings.totalMemoryMib,
      maxMachines: settings.maxMachines,
      others: (but) => this.#otherMachines(but),
      run: (id) => this.#run(id),
    })
    this.#unwatch = machines.watch(() => this.#scheduler.admit())
  }

  get activeCount(): number {
    return this.#active.size
  }

  get queuedCount(): number {
    return this.#scheduler.queued
  }

  /** Queues a task whose row is stored; `message` says why, where that is not obvious. Rejects with `storage_failed`. */
  async enqueue(task: TaskIdentity, message?: string): Promise<void> {
    const active = this.#activate(task)
    const { id, request } = task
    try {
      await this.#services.events.append(id, [
        { type: 'status', status: 'queued', ...(message === undefined ? {} : { message }) },
      ])
    } catch (error) {
      // Its caller is told; a task that nobody queues must not look as if it were waiting.
      await this.#conclude(active, { ...NOTHING_RAN, ...reasonOf(error) })
      throw error
    }
    if (active.stop.reason === undefined) {
      const { priority, memoryMib } = request
      const takesOver = request.fork === true ? undefined : request.continues
      this.#scheduler.enqueue({ id, priority, memoryMib, takesOver })
    } else {
      await this.#conclude(active, stopped(active.stop))
    }
  }

  /** Asks a task to stop; one that only waits is final when this resolves. */
  async cancel(id: string): Promise<void> {
    const active = this.#active.get(id)
    if (active === undefined) return
    active.stop.stop('cancelled', 'The task was cancelled.')
    if (this.#scheduler.remove(id)) await this.#conclude(active, stopped(active.stop))
  }

  /** Ends a task that a previous orchestrator had started; the log knows whether it came to its end all the same. */
  async interrupt(task: TaskIdentity): Promise<void> {
    const end = await this.#findEnd(task.id)
    if (end !== undefined) {
      await this.#services.store.update(task.id, { status: end.status, finishedAt: end.at })
      return
    }
    const active = this.#activate(task)
    active.stop.stop('interrupted', 'The server was stopped while the task ran, and its machine with it.')
    await this.#conclude(active, stopped(active.stop))
  }

  /** Resolves when the task is final; undefined when it is (or never was). */
  done(id: string): Promise<void> | undefined {
    return this.#active.get(id)?.done.promise
  }

  /** Resolves when no task has its last event stored but not its row: then the rows agree with what readers of the log saw. */
  async settled(): Promise<void> {
    const settling = [...this.#active.values()].filter((active) => active.isSettling)
    await Promise.all(settling.map((active) => active.done.promise))
  }

  /** Stops running tasks, bringing their files back while there is time. Waiting ones stay queued for the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#unwatch()
    const running = this.#scheduler.close().flatMap((id) => this.#active.get(id) ?? [])
    for (const { stop } of running) stop.stop('interrupted', 'The server was shut down while the task ran.')
    const ended = Promise.all(running.map((active) => active.done.promise))
    const patience = new AbortController()
    await Promise.race([ended, pause(this.#services.settings.timings.shutdownMs, patience.signal)])
    patience.abort()
    this.#hurry.abort()
    await ended
    await this.kept[Symbol.asyncDispose]()
  }

  #activate(task: TaskIdentity): ActiveTask {
    const active = { ...task, stop: new StopSwitch(), done: Promise.withResolvers<void>(), isSettling: false }
    this.#active.set(task.id, active)
    return active
  }

  async #run(id: string): Promise<void> {
    const active = this.#active.get(id)
    if (active === undefined) return
    const ending = await runTask(this.#services, { ...active, hurry: this.#hurry.signal })
    await this.#conclude(active, ending)
  }

  /** Details into the row, then the last event, then the status: a crash in between leaves what `interrupt` can finish. */
  async #conclude(active: ActiveTask, ending: Ending): Promise<void> {
    const { store, events, log } = this.#services
    const { id } = active
    const { status, failure, exitCode, result, turns } = ending
    const errorJson = failure === undefined ? null : JSON.stringify(failure)
    const error = failure === undefined ? {} : { error: failure }
    await this.#attempt(id, 'store how it ended', () =>
      store.update(id, { exitCode, result, turns, errorJson, waitingUntil: null }),
    )
    crashPoint('ending stored')
    active.isSettling = true
    await this.#attempt(id, 'store its last event', () => events.append(id, [{ type: 'status', status, ...error }]))
    crashPoint('last event stored')
    await this.#attempt(id, 'store its status', () =>
      store.update(id, { status, finishedAt: new Date().toISOString() }),
    )
    await this.#attempt(id, 'remove its inputs', () => this.#removeInputs(active))
    this.#active.delete(id)
    active.done.resolve()
    log.info({ taskId: id, status, code: failure?.code }, 'task ended')
  }

  /** A step of an ending: when one fails, the others are still worth it. */
  async #attempt(taskId: string, what: string, step: () => Promise<unknown>): Promise<void> {
    try {
      await step()
    } catch (error) {
      this.#services.log.error({ err: error, taskId }, `could not ${what}`)
    }
  }

  async #removeInputs({ id, request }: ActiveTask): Promise<void> {
    const { blobs } = this.#services
    if (request.files.length > 0) await blobs.removeAll(blobKeys.inputs(id))
    if (request.uploadId !== undefined) await blobs.removeAll(blobKeys.uploads(request.uploadId))
  }

  async #findEnd(id: string): Promise<{ status: TaskStatus; at: string } | undefined> {
    for (let from = 1; ;) {
      const page = await this.#services.events.read(id, from, EVENTS_AT_ONCE)
      const last = page.at(-1)
      if (last === undefined) return undefined
      if (last.type === 'status' && isFinal(last.status)) return last
      from = last.seq + 1
    }
  }

  /** Machines of people, and kept ones. Suspended ones take no memory, and those of nobody give way. */
  #otherMachines(but: ReadonlySet<string>): { count: number; memoryMib: number } {
    const machines = this.#services.machines
      .list()
      .filter(({ userId, state }) => userId !== NOBODY && state !== 'gone' && state !== 'suspended')
      .filter(({ taskId }) => taskId === null || !but.has(taskId))
    return { count: machines.length, memoryMib: machines.reduce((sum, info) => sum + info.memoryMib, 0) }
  }
}

/** The end of a task that was stopped before it began. */
function stopped({ reason }: StopSwitch): Ending {
  const failure = reason?.failure ?? { code: 'cancelled' as const, message: 'The task was cancelled.' }
  return { ...NOTHING_RAN, status: reason?.status ?? 'cancelled', failure }
}
