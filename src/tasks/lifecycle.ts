import { toVivariumError, type ErrorCode, type VivariumError } from '../contracts/errors.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import { isFinal, type QueuePlace, type TaskStatus } from '../contracts/task.ts'
import type { EventLog } from '../events/types.ts'
import type { Capacity, MachineSize } from '../machines/types.ts'
import { LeftRunning } from './agent-run.ts'
import { conclude, settle } from './conclusion.ts'
import { forgetAttempt } from './forget-attempt.ts'
import { KeptMachines } from './kept-machines.ts'
import { Pace } from './pace.ts'
import { queuedTask } from './queue.ts'
import { backOffMs, mayRunAgain } from './retry.ts'
import type { RunServices } from './run.ts'
import { runTask } from './runner.ts'
import type { JournaledRun } from './run-journal.ts'
import { Scheduler, type Waiting } from './scheduler.ts'
import type { TaskSettings } from './settings.ts'
import { reasonOf, StopSwitch } from './stop.ts'
import { suspendRun } from './suspend-run.ts'
import { takeUpKept, tellUsage, type TakenUp } from './take-up.ts'
import type { UnfinishedTask } from './task-store.ts'
import type { Ending } from './verdict.ts'
import { elapsedMs, pause } from './waiting.ts'

export interface LifecycleServices extends Omit<RunServices, 'kept'> {
  events: EventLog
  capacity: Capacity
}

/** A task whose row is stored. */
export type StoredTask = Pick<UnfinishedTask, 'id' | 'userId' | 'request' | 'createdAt' | 'attempts'>

/** A task that is not final. */
interface ActiveTask extends StoredTask {
  /** Of its present attempt. */
  stop: StopSwitch
  /** Its user does not want it any more, whatever its present attempt comes to. */
  isCancelled: boolean
  /** Resolves when the task is final: its last event stored, its row done. */
  done: PromiseWithResolvers<void>
  /** Aborts when its run is to be left for the next orchestrator. */
  leave: AbortController
  /** What a previous orchestrator has left of its run. */
  takenUp: TakenUp | undefined
  /** It is being made final: its last event may be stored while its row is not yet done. */
  isSettling: boolean
}

const NOTHING_RAN = { exitCode: null, result: null, turns: 0 } as const

const CANCELLED: Ending = {
  ...NOTHING_RAN,
  status: 'cancelled',
  failure: { code: 'cancelled', message: 'The task was cancelled.' },
}

/** Takes every task from its queue to its end. What a task consists of is in its `ActiveTask` and its run, never shared. */
export class Lifecycle implements AsyncDisposable {
  readonly #services: LifecycleServices & RunServices
  /** Machines that outlive their tasks. */
  readonly kept: KeptMachines
  readonly #scheduler: Scheduler
  readonly #pace = new Pace()
  readonly #active = new Map<string, ActiveTask>()
  readonly #hurry = new AbortController()
  readonly #unwatch: () => void

  constructor(services: LifecycleServices) {
    const { machines, capacity, settings, storage, log } = services
    this.kept = new KeptMachines(machines, log)
    this.#services = { ...services, kept: this.kept }
    const { agingMs } = settings.timings
    const heldBackBy = () => storage.lastProblem
    this.#scheduler = new Scheduler({ capacity, agingMs, heldBackBy, now: elapsedMs, run: (id) => this.#run(id) })
    const unwatch = [machines, storage].map((watched) => watched.watch(() => this.#scheduler.admit()))
    this.#unwatch = () => unwatch.forEach((stop) => stop())
  }

  get activeCount(): number {
    return this.#active.size
  }

  /** How many tasks wait, of all users and of one. */
  queued(userId: string): { all: number; ofUser: number } {
    return { all: this.#scheduler.queued, ofUser: this.#scheduler.queuedOf(userId) }
  }

  /** Seconds until there is likely to be a place in the queue. */
  get secondsUntilPlace(): number {
    return this.#pace.untilNextEnd(this.#scheduler.running)
  }

  /** How those of these tasks stand that wait. */
  places(ids: readonly string[]): Map<string, QueuePlace> {
    return this.#scheduler.places(ids)
  }

  /** Queues a task whose row is stored; `message` says why, where that is not obvious. Rejects with `storage_failed`. */
  async enqueue(task: StoredTask, message?: string): Promise<void> {
    const active = this.#activate(task)
    const { id, request } = task
    // A host, or its settings, may have become smaller since it was sent.
    const refusal = this.#tooLarge(request)
    if (refusal !== undefined) active.stop.stop(refusal.code, refusal.message)
    try {
      await this.#services.events.append(id, [
        { type: 'status', status: 'queued', ...(message === undefined ? {} : { message }) },
      ])
      if (active.stop.reason === undefined) await this.#join(active)
      else await this.#conclude(active, stopped(active.stop))
    } catch (error) {
      // Its caller is told; a task that nobody queues must not look as if it were waiting.
      this.#scheduler.remove(id)
      await this.#conclude(active, { ...NOTHING_RAN, ...reasonOf(error) })
      throw error
    }
  }

  /** Asks a task to stop; one that only waits is final when this resolves. */
  async cancel(id: string): Promise<void> {
    const active = this.#active.get(id)
    if (active === undefined) return
    active.isCancelled = true
    try {
      // Written down first: a server that is killed now must not go on with it.
      await this.#services.store.update(id, { isCancelled: 1 })
    } finally {
      await this.#giveUp(active, 'cancelled', 'The task was cancelled.')
    }
  }

  /** Gives a task whose log has come to its end the row that says so. Whether it had. */
  settle(task: UnfinishedTask): Promise<boolean> {
    return settle(this.#services, task)
  }

  /**
   * Takes up a task that a previous orchestrator has left: one whose agent was started goes on in its machine, any other has had no effects and
   * waits again.
   */
  async recover(task: UnfinishedTask): Promise<void> {
    const { id, status } = task
    const { journal, machines } = this.#services
    const journaled = await journal.find(id)
    if (journaled === undefined) {
      if (task.isCancelled) return this.#conclude(this.#activate(task), CANCELLED)
      if (status === 'queued') return this.enqueue(task, 'Queued again after a restart of the server')
      await this.#putBack(task)
      return this.enqueue(task, 'The server was stopped before its agent was started: queued again')
    }
    await tellUsage(this.#services, id)
    const machine = machines.find(journaled.machineId)
    if (machine === undefined) return this.#endWithout(task, journaled)
    const active = this.#activate(task)
    active.takenUp = { journaled, machine, status, phases: task.phases }
    if (task.isCancelled) await this.cancel(id)
    this.#scheduler.adopt({ ...queuedTask(task), takesOver: undefined })
  }

  /** Gives a kept machine of a previous orchestrator its way out again. */
  recoverKept(info: MachineInfo): Promise<void> {
    return takeUpKept(this.#services, info)
  }

  /**
   * Ends a task whose machine is gone: as its agent had ended, where all that was in the machine was brought back before; else as interrupted,
   * or starts it again.
   */
  async #endWithout(task: UnfinishedTask, { ending, isCollected }: JournaledRun): Promise<void> {
    const active = this.#activate(task)
    if (ending !== undefined && isCollected) return this.#conclude(active, ending)
    active.stop.stop('interrupted', 'The server was stopped while the task ran, and its machine is gone.')
    const waiting = await this.#finish(active, { ...ending, ...stopped(active.stop) }, true)
    if (waiting !== undefined) this.#scheduler.enqueue(queuedTask(active), waiting)
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

  /** Suspends, leaves or stops what runs, as the settings say. Waiting tasks stay queued for the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#unwatch()
    const { atShutdown, timings } = this.#services.settings
    const running = this.#scheduler.close().flatMap((id) => this.#active.get(id) ?? [])
    const ended = Promise.all(running.map((active) => active.done.promise))
    await Promise.all(running.map((active) => this.#release(active, atShutdown)))
    const isOver = new AbortController()
    const hurry = this.#hurryLater(timings.shutdownMs, isOver.signal)
    await ended
    isOver.abort()
    await hurry
    await this.kept[Symbol.asyncDispose]()
  }

  /** What becomes of a running task when the server stops. One that can't be suspended is stopped, and its files are collected. */
  async #release(active: ActiveTask, how: TaskSettings['atShutdown']): Promise<void> {
    if (how === 'stop' || (how === 'suspend' && !(await suspendRun(this.#services, active.id)))) {
      return active.stop.stop('interrupted', 'The server was shut down while the task ran.')
    }
    active.leave.abort()
  }

  /** After so long, or once all is over, there is no more patience: with guests, and with the disk. */
  async #hurryLater(ms: number, isOver: AbortSignal): Promise<void> {
    await pause(ms, isOver)
    this.#hurry.abort()
    this.#services.storage.hurry()
  }

  #activate({ id, userId, request, createdAt, attempts }: StoredTask): ActiveTask {
    const task = { id, userId, request, createdAt, attempts }
    const done = Promise.withResolvers<void>()
    const [stop, leave] = [new StopSwitch(), new AbortController()]
    const active = { ...task, stop, leave, isCancelled: false, takenUp: undefined, done, isSettling: false }
    this.#active.set(id, active)
    return active
  }

  #tooLarge(request: MachineSize): VivariumError | undefined {
    try {
      this.#services.capacity.refuseTooLarge(request)
      return undefined
    } catch (error) {
      return toVivariumError(error)
    }
  }

  /** Lets a task wait for its turn, and before that for the tasks that it is to come after. */
  async #join(active: ActiveTask): Promise<void> {
    const { userId, request } = active
    const after = request.after ?? []
    this.#scheduler.enqueue(queuedTask(active), { after: new Set(after), notBefore: 0, why: '' })
    if (after.length === 0) return
    // Those that end from here on say so themselves.
    const statuses = await this.#services.store.statuses(userId, after)
    for (const id of after) {
      // One that is gone had succeeded: who waits for one that does not ends with it.
      const status = statuses.get(id) ?? 'succeeded'
      if (isFinal(status)) await this.#tellFollowers(id, status)
    }
  }

  /** A task is final: those that wait for it may start, or never will. */
  async #tellFollowers(id: string, status: TaskStatus): Promise<void> {
    if (status === 'succeeded') return this.#scheduler.succeeded(id)
    const waiting = this.#scheduler.waitingFor(id).flatMap((other) => this.#active.get(other) ?? [])
    const message = `It was to run after the task ${id}, which ended as ${status}: it was not started.`
    await Promise.all(waiting.map((active) => this.#giveUp(active, 'prerequisite_failed', message)))
  }

  /** Ends a task that waits, and asks one that runs to stop. */
  async #giveUp(active: ActiveTask, code: ErrorCode, message: string): Promise<void> {
    active.stop.stop(code, message)
    if (this.#scheduler.remove(active.id)) await this.#conclude(active, stopped(active.stop))
  }

  async #run(id: string): Promise<Waiting | undefined> {
    const active = this.#active.get(id)
    if (active === undefined) return undefined
    if (active.takenUp === undefined) active.attempts += 1
    const startedAt = elapsedMs()
    const run = { ...active, leave: active.leave.signal, hurry: this.#hurry.signal }
    try {
      const ending = await runTask(this.#services, run, active.takenUp)
      this.#pace.ran(elapsedMs() - startedAt)
      const hasBegun = ending.failure === undefined || (await this.#hasBegun(id))
      const isPutBack = this.#scheduler.isClosed && !hasBegun && !active.isCancelled
      if (!isPutBack) return await this.#finish(active, ending, hasBegun)
      await this.#attempt(id, 'put it back into the queue', () => this.#putBack(active))
    } catch (error) {
      if (!(error instanceof LeftRunning)) throw error
    }
    this.#letGo(active)
    return undefined
  }

  /** Whether an agent was started for a task, so that it may have had effects. */
  async #hasBegun(id: string): Promise<boolean> {
    try {
      return (await this.#services.journal.find(id)) !== undefined
    } catch (error) {
      this.#services.log.error({ err: error, taskId: id }, 'its run could not be read')
      return true // the more careful answer
    }
  }

  /** A task whose start was cut short by a stop of the server waits again; that start does not count. */
  async #putBack(task: StoredTask): Promise<void> {
    task.attempts -= 1
    await this.#services.store.startOver(task.id, task.attempts)
  }

  /** After an attempt: the task is final, or resolves with what it waits for until the next one. Never rejects. */
  async #finish(active: ActiveTask, ending: Ending, begun: boolean): Promise<Waiting | undefined> {
    const { attempts, isCancelled, request } = active
    const attempt = { attempts, begun, requeue: request.requeue === true }
    const isLost = mayRunAgain(ending, attempt, this.#services.settings.maxRetries)
    if (isLost && !isCancelled) return this.#startOver(active, ending)
    await this.#conclude(active, isLost ? CANCELLED : ending)
    return undefined
  }

  async #startOver(active: ActiveTask, { failure }: Ending): Promise<Waiting | undefined> {
    const { timings, maxRetries } = this.#services.settings
    const { attempts } = active
    active.stop = new StopSwitch()
    active.takenUp = undefined
    const why = `attempt ${attempts} of at most ${maxRetries + 1} failed: ${failure?.message ?? ''}`
    try {
      await forgetAttempt(this.#services, active, { code: failure?.code, why })
    } catch (error) {
      await this.#conclude(active, { ...NOTHING_RAN, ...reasonOf(error) })
      return undefined
    }
    if (active.stop.reason !== undefined) await this.#conclude(active, stopped(active.stop))
    else if (this.#scheduler.isClosed) this.#letGo(active)
    else return { after: new Set(), notBefore: elapsedMs() + backOffMs(attempts, timings.retryMs), why }
    return undefined
  }

  /** A task is not this orchestrator's any more: it is final, or the next one's. */
  #letGo(active: ActiveTask): void {
    this.#active.delete(active.id)
    active.done.resolve()
  }

  async #conclude(active: ActiveTask, ending: Ending): Promise<void> {
    const { id } = active
    active.isSettling = true
    await conclude(this.#services, active, ending)
    this.#letGo(active)
    await this.#attempt(id, 'tell those that wait for it', () => this.#tellFollowers(id, ending.status))
  }

  /** A step of an ending: when one fails, the others are still worth it. */
  async #attempt(taskId: string, what: string, step: () => Promise<unknown>): Promise<void> {
    try {
      await step()
    } catch (error) {
      this.#services.log.error({ err: error, taskId }, `could not ${what}`)
    }
  }
}

/** The end of a task that was stopped before it began. */
function stopped({ reason }: StopSwitch): Ending {
  return reason === undefined ? CANCELLED : { ...NOTHING_RAN, ...reason }
}
