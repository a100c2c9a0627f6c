import type { MachineInfo } from '../contracts/machine.ts'
import type { EventLog } from '../events/types.ts'
import { NOBODY } from '../machines/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { LeftRunning } from './agent-run.ts'
import { blobKeys } from './blob-keys.ts'
import { addTokens, NO_TOKENS } from '../contracts/usage.ts'
import { egressContext, usageEvent } from './egress.ts'
import { KeptMachines } from './kept-machines.ts'
import type { RunServices } from './run.ts'
import { type TakenUp, runTask } from './runner.ts'
import type { JournaledRun } from './run-journal.ts'
import { Scheduler } from './scheduler.ts'
import type { TaskSettings } from './settings.ts'
import { reasonOf, StopSwitch } from './stop.ts'
import type { StoredRequest, UnfinishedTask } from './task-store.ts'
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
  /** Aborts when its run is to be left for the next orchestrator. */
  leave: AbortController
  /** What a previous orchestrator has left of its run. */
  takenUp: TakenUp | undefined
  /** Its last event is being stored and its row is not yet done. */
  isSettling: boolean
}

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

  /** Gives a task whose log has come to its end the row that says so. Whether it had. */
  async settle(task: UnfinishedTask): Promise<boolean> {
    const { store, events } = this.#services
    const end = await events.ending(task.id)
    if (end === undefined) return false
    await store.update(task.id, { status: end.status, finishedAt: end.at })
    await this.#clearAway(task)
    return true
  }

  /**
   * Takes up a task that a previous orchestrator has left: one whose agent was started goes on in its machine, any other has had no effects and
   * waits again.
   */
  async recover(task: UnfinishedTask): Promise<void> {
    const { id, status, request } = task
    const { store, journal, machines } = this.#services
    const journaled = await journal.find(id)
    if (journaled === undefined) {
      if (status === 'queued') return this.enqueue(task, 'Queued again after a restart of the server')
      await store.update(id, { status: 'queued', startedAt: null, vmId: null })
      return this.enqueue(task, 'The server was stopped before its agent was started: queued again')
    }
    await this.#tellUsage(id)
    const machine = machines.find(journaled.machineId)
    if (machine === undefined) return this.#interrupt(task, journaled)
    this.#activate(task).takenUp = { journaled, machine, status, phases: task.phases }
    const { priority, memoryMib } = request
    this.#scheduler.adopt({ id, priority, memoryMib, takesOver: undefined })
  }

  /** Tells in a task's log of model requests that were counted but not told of before its orchestrator was killed. */
  async #tellUsage(id: string): Promise<void> {
    const { store, events, gateway } = this.#services
    const records = await gateway.recordsOf(id)
    const told = new Set((await events.usage(id)).map(({ requestId }) => requestId))
    const missing = records.filter(({ requestId }) => !told.has(requestId)).map(usageEvent)
    if (missing.length > 0) await events.append(id, missing)
    const tokens = records.reduce(addTokens, NO_TOKENS)
    const costUsd = records.reduce((sum, record) => sum + (record.costUsd ?? 0), 0)
    await store.update(id, { ...tokens, costUsd })
  }

  /** Gives a kept machine of a previous orchestrator its way out again. */
  async recoverKept(info: MachineInfo): Promise<void> {
    const { store, gateway, agents, machines } = this.#services
    const { id: machineId, userId, taskId } = info
    if (taskId === null) return
    const { request } = await store.origin(userId, taskId)
    const session = gateway.open({ ...egressContext(agents, { machineId, userId, taskId, request }) })
    this.kept.add(machineId, session)
    await machines.rejoin(machineId, { egress: (socket) => session.accept(socket) })
  }

  /** Ends a task whose machine is gone with all that was in it; how its agent had ended may be known. */
  async #interrupt(task: TaskIdentity, { ending }: JournaledRun): Promise<void> {
    const active = this.#activate(task)
    active.stop.stop('interrupted', 'The server was stopped while the task ran, and its machine is gone.')
    await this.#conclude(active, { ...ending, ...stopped(active.stop) })
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
    const isOver = new AbortController()
    const hurry = pause(timings.shutdownMs, isOver.signal).then(() => this.#hurry.abort())
    await Promise.all(running.map((active) => this.#release(active, atShutdown)))
    await ended
    isOver.abort()
    await hurry
    await this.kept[Symbol.asyncDispose]()
  }

  /** What becomes of a running task when the server stops. One that can't be suspended is stopped, and its files are collected. */
  async #release(active: ActiveTask, how: TaskSettings['atShutdown']): Promise<void> {
    if (how === 'stop' || (how === 'suspend' && !(await this.#suspend(active)))) {
      return active.stop.stop('interrupted', 'The server was shut down while the task ran.')
    }
    active.leave.abort()
  }

  /** Whether a task's run lies on the disk now, or has not begun. It goes on by itself when a server is there again. */
  async #suspend({ id }: ActiveTask): Promise<boolean> {
    const { journal, machines, log } = this.#services
    try {
      const run = await journal.find(id)
      if (run === undefined || run.ending !== undefined) return true
      const state = machines.list().find((info) => info.id === run.machineId)?.state
      if (state === 'suspended') return true
      await journal.setWakeAt(id, new Date())
      await machines.suspend(run.machineId)
      return true
    } catch (error) {
      log.warn({ err: error, taskId: id }, 'a running task could not be suspended')
      return false
    }
  }

  #activate(task: TaskIdentity): ActiveTask {
    const { id, userId, request } = task
    const done = Promise.withResolvers<void>()
    const [stop, leave] = [new StopSwitch(), new AbortController()]
    const active: ActiveTask = { id, userId, request, stop, leave, takenUp: undefined, done, isSettling: false }
    this.#active.set(task.id, active)
    return active
  }

  async #run(id: string): Promise<void> {
    const active = this.#active.get(id)
    if (active === undefined) return
    const run = { ...active, leave: active.leave.signal, hurry: this.#hurry.signal }
    try {
      const ending = await runTask(this.#services, run, active.takenUp)
      if (run.leave.aborted && (await this.#services.journal.find(id)) === undefined) return this.#putBack(active)
      await this.#conclude(active, ending)
    } catch (error) {
      if (!(error instanceof LeftRunning)) throw error
      this.#letGo(active)
    }
  }

  /** A task that has had no effects yet waits again, for the next orchestrator. */
  async #putBack(active: ActiveTask): Promise<void> {
    const waits = { status: 'queued', startedAt: null, vmId: null }
    await this.#attempt(active.id, 'put it back into the queue', () => this.#services.store.update(active.id, waits))
    this.#letGo(active)
  }

  #letGo(active: ActiveTask): void {
    this.#active.delete(active.id)
    active.done.resolve()
  }

  /** Details into the row, then the last event, then the status: a crash in between leaves what `settle` can finish. */
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
    await this.#attempt(id, 'clear away what it needed', () => this.#clearAway(active))
    this.#letGo(active)
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

  /** Removes what only a task that is not final needs. */
  async #clearAway({ id, request }: TaskIdentity): Promise<void> {
    const { blobs, journal } = this.#services
    await journal.remove(id)
    if (request.files.length > 0) await blobs.removeAll(blobKeys.inputs(id))
    if (request.uploadId !== undefined) await blobs.removeAll(blobKeys.uploads(request.uploadId))
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
