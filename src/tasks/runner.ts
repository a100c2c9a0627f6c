import { randomUUID } from 'node:crypto'
import type { AgentJob, ConversationFiles } from '../agents/types.ts'
import { toVivariumError, VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { Checkpoint } from '../events/types.ts'
import type { Machine } from '../machines/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { acquireMachine } from './acquire.ts'
import type { Place } from './acquire.ts'
import { LeftRunning, runAgent } from './agent-run.ts'
import type { AgentEnd, RunCheckpoint } from './agent-run.ts'
import { bringBack } from './bring-back.ts'
import { Egress } from './egress.ts'
import { Halts } from './halts.ts'
import { Phases } from './phases.ts'
import { Recorder } from './recorder.ts'
import { RunClock } from './run-clock.ts'
import type { Run, RunServices } from './run.ts'
import type { ClockReading, JournaledStart } from './run-journal.ts'
import { scaled } from './settings.ts'
import type { Timings } from './settings.ts'
import { restoreState } from './state.ts'
import { StatusBoard } from './status-board.ts'
import { reasonOf } from './stop.ts'
import { takeUp, type RunParts, type TakenUp } from './take-up.ts'
import type { Origin } from './task-store.ts'
import type { Ending } from './verdict.ts'
import { judge } from './verdict.ts'
import { onAbort } from './waiting.ts'
import { prepareWorkspace } from './workspace.ts'

/**
 * Takes a task from its machine's start, or from where another orchestrator has left it, to its last file. Everything it opens is closed
 * when it resolves. Rejects with `LeftRunning` only, when it was to be left for another orchestrator.
 */
export async function runTask(services: RunServices, run: Run, takenUp?: TakenUp): Promise<Ending> {
  const open = (onStored: (checkpoint: Checkpoint) => void) => services.openWriter(run.id, onStored)
  const recorder = new Recorder(open, (error) => {
    services.log.error({ err: error, taskId: run.id }, 'events could not be stored')
    const { code, message } = toVivariumError(error, 'storage_failed')
    run.stop.stop(code, `What happened could not be stored: ${message}`)
  })
  try {
    return await new TaskRun(services, run, recorder, takenUp).perform()
  } catch (error) {
    if (error instanceof LeftRunning) throw error
    if (run.stop.reason === undefined) services.log.warn({ err: error, taskId: run.id }, 'task failed')
    const { status, failure } = run.stop.reason ?? reasonOf(error)
    return { status, failure, exitCode: null, result: null, turns: 0 }
  } finally {
    await recorder.flush()
  }
}

class TaskRun {
  readonly #services: RunServices
  readonly #run: Run
  readonly #recorder: Recorder
  readonly #takenUp: TakenUp | undefined
  readonly #phases: Phases
  readonly #clock = new RunClock()
  readonly #board: StatusBoard
  readonly #halts: Halts
  readonly #egress: Egress
  /** Of its machine; another one's once that is salvaged. */
  #lost = new AbortController()
  #isDestroyed = false
  /** From here on the run has effects, and another orchestrator can take it up. */
  #hasBegun: boolean
  /** Set once the task has it. */
  #machineId: string | undefined

  constructor(services: RunServices, run: Run, recorder: Recorder, takenUp: TakenUp | undefined) {
    const { store, journal, machines, log } = services
    this.#services = services
    this.#run = run
    this.#recorder = recorder
    this.#takenUp = takenUp
    this.#hasBegun = takenUp !== undefined
    this.#phases = new Phases(takenUp?.phases)
    this.#board = new StatusBoard(run, store, recorder)
    this.#halts = new Halts({
      taskId: run.id,
      machines,
      clock: this.#clock,
      board: this.#board,
      saveClock: () => void this.#attempt('store its clock', () => journal.setClock(run.id, this.#clockReading())),
      saveWakeAt: (at) => this.#attempt('store when it goes on', () => journal.setWakeAt(run.id, at)),
      log,
    })
    this.#egress = new Egress(services, run, recorder, (hold) => this.#halts.held(hold))
  }

  async perform(): Promise<Ending> {
    await using cleanup = new AsyncDisposableStack()
    cleanup.use(this.#clock)
    const { request, userId, leave, stop } = this.#run
    const notBegun = 'The server is shutting down; the task has not begun.'
    cleanup.use(onAbort(leave, () => (this.#hasBegun ? undefined : stop.stop('interrupted', notBegun))))
    const { continues } = request
    const origin = continues === undefined ? undefined : await this.#services.store.origin(userId, continues)
    cleanup.defer(() => this.#savePhases())
    const place = this.#takenUp === undefined ? await this.#acquire(origin) : await takeUp(this.#takenUp, this.#parts())
    const leaving = cleanup.use(this.#leaving(place))
    cleanup.use(this.#halts)
    const { storage } = this.#services
    cleanup.defer(storage.watch(() => this.#halts.heldBack(storage.holdsBack)))
    if (storage.holdsBack) this.#halts.heldBack(true)
    this.#machineId = place.machine.id
    if (place.machine.crashed === undefined) this.#halts.machineChanged(place.machine.info())
    void this.#watch(place.machine)

    const job =
      this.#takenUp === undefined ? await this.#begin(place, origin) : this.#jobOf(this.#takenUp.journaled.start)
    try {
      const ending = this.#takenUp?.journaled.ending ?? (await this.#runToEnd(place, job))
      if (this.#takenUp?.journaled.isCollected === true) return ending
      if (place.machine.crashed !== undefined || this.#lost.signal.aborted) await this.#revive(place)
      else await this.#wake(place.machine)
      await this.#board.enter('collecting')
      const conversation = this.#services.agents[request.agent].conversation?.(job.sessionId)
      await this.#phases.timed('collect', () => this.#collect(place.machine, conversation))
      await this.#recorder.flush()
      await this.#services.journal.setCollected(this.#run.id)
      crashPoint('run collected')
      return ending
    } catch (error) {
      leaving.isLeft = error instanceof LeftRunning
      throw error
    }
  }

  /** Everything up to the agent's start, which is journaled last: from then on the run is taken up after a crash, not begun anew. */
  async #begin(place: Place, origin: Origin | undefined): Promise<AgentJob> {
    const { id, request, stop } = this.#run
    const { agents, store, journal } = this.#services
    if (place.waiting === undefined) await this.#prepare(place, origin)
    stop.signal.throwIfAborted()
    this.#hasBegun = true
    const job = this.#jobOf(this.#newStart(place, origin))
    const { sessionId, resumes, credentialKind } = job
    if (agents[request.agent].conversation !== undefined) await store.update(id, { sessionId })
    this.#clock.begin()
    const { waiting, machine, keepUntil } = place
    const execId = waiting?.execId ?? newId('x')
    const start = { sessionId, resumes, credentialKind }
    await journal.begin(id, { machineId: machine.id, execId, start, keepUntil, clock: this.#clockReading() })
    crashPoint('run journaled')
    return job
  }

  /** Runs the agent, or reads on what it says, until it is done. How it ended is stored before anything follows from it. */
  async #runToEnd(place: Place, job: AgentJob): Promise<Ending> {
    const { id, stop } = this.#run
    const { journal } = this.#services
    if (place.machine.crashed !== undefined) {
      const ending = { ...(stop.reason ?? reasonOf(stop.signal.reason)), exitCode: null, result: null, turns: 0 }
      await journal.setEnding(id, ending)
      return ending
    }
    await this.#board.enter('running')
    const end = await this.#runAgent(place, job)
    const ending = judge(end, place.session.totals(), this.#egress.modelError)
    await this.#recorder.flush()
    await journal.setEnding(id, ending)
    crashPoint('run ended')
    end.forget()
    return ending
  }

  #acquire(origin: Origin | undefined): Promise<Place> {
    return acquireMachine({
      services: this.#services,
      run: this.#run,
      origin,
      openSession: (machineId) => this.#egress.open(machineId),
      closeSession: (session) => this.#egress.close(session),
      onMachine: (machineId) => this.#board.start(machineId),
      onChange: (info) => {
        if (info.id === this.#machineId) this.#halts.machineChanged(info)
      },
      onStart: (info) => this.#showStart(info),
      onProblem: (message) => this.#recorder.log('warn', message),
      timed: (phase, action) => {
        this.#board.step(phase, `Starting: ${phase}`)
        return this.#phases.timed(phase, action)
      },
    })
  }

  #parts(): RunParts {
    const { machines } = this.#services
    const { stop } = this.#run
    const [clock, board, egress] = [this.#clock, this.#board, this.#egress]
    return { machines, stop, clock, board, egress, halts: this.#halts, recorder: this.#recorder }
  }

  #showStart({ phases, state }: MachineInfo): void {
    const fresh = this.#phases.started(phases)
    if (state !== 'booting') return
    for (const name of fresh) this.#board.step(name, `Starting the machine: ${name}`)
  }

  /** Never rejects, and outlives the run when nothing happens to the machine. */
  async #watch(machine: Machine): Promise<void> {
    const lost = this.#lost
    const why = await machine.lost
    this.#isDestroyed = machine.info().error?.code === 'machine_destroyed'
    lost.abort()
    if (this.#isDestroyed) this.#run.stop.stop('machine_destroyed', why)
    else this.#run.stop.stop('guest_lost', `The machine was lost: ${why}`)
  }

  async #prepare({ machine, hasState }: Place, origin: Origin | undefined): Promise<void> {
    const { id: taskId, request, stop } = this.#run
    const { blobs, settings, agents } = this.#services
    const { link } = machine
    const timeoutMs = this.#timings(machine).prepareMs
    const deadline = () => AbortSignal.any([stop.signal, this.#clock.deadline(timeoutMs)])
    const hasTemplate = request.template !== undefined
    const onStep = async (message: string) => this.#board.step('workspace', message)
    await this.#phases.timed('workspace', async () => {
      if (origin !== undefined && !hasState) {
        await onStep(`Bringing in the workspace of ${origin.id}`)
        const { sessionId } = origin
        const conversation = sessionId === null ? undefined : agents[request.agent].conversation?.(sessionId)
        const state = { originId: origin.id, conversation, isFilled: hasTemplate }
        await restoreState({ ...state, link, blobs, deadline, timeoutMs })
      }
      const isFilled = hasTemplate || origin !== undefined
      const workspace = { isFilled, hasBaseline: machine.hasBaseline && origin === undefined }
      const { exclude } = settings
      await prepareWorkspace({ taskId, request, link, blobs, exclude, ...workspace, deadline, timeoutMs, onStep })
    })
    await this.#savePhases()
  }

  /** Boots a machine that was lost from its own disk, for what can be read there. Never rejects. */
  async #revive(place: Place): Promise<void> {
    const { machines } = this.#services
    const { id, crashed } = place.machine
    if (this.#isDestroyed) return
    try {
      await this.#recorder.log('info', 'Starting the machine again from its disk, for the files on it')
      if (crashed === undefined) {
        place.machine = await machines.salvage(id)
        this.#lost = new AbortController()
        void this.#watch(place.machine)
      }
      const deadline = AbortSignal.timeout(this.#timings(place.machine).prepareMs)
      await machines.resume(id, AbortSignal.any([deadline, this.#run.hurry]))
    } catch (error) {
      this.#lost.abort()
      await this.#recorder.log(
        'warn',
        `The machine could not be started from its disk: ${toVivariumError(error).message}`,
      )
    }
  }

  /** A conversation goes on under its own name, unless it branches off. */
  #newStart({ waiting }: Place, origin: Origin | undefined): JournaledStart {
    const { userId, request } = this.#run
    const agent = this.#services.agents[request.agent]
    const resumes = agent.conversation === undefined ? null : (origin?.sessionId ?? null)
    const goesOn = request.fork === true ? null : resumes
    return {
      credentialKind: agent.needsModel ? this.#services.gateway.credentialKind(userId) : undefined,
      sessionId: waiting?.sessionId ?? goesOn ?? randomUUID(),
      resumes,
    }
  }

  #jobOf(start: JournaledStart): AgentJob {
    const { prompt, model = null, maxTurns = null, env = {} } = this.#run.request
    return { prompt, model, maxTurns, env, ...start }
  }

  async #runAgent({ machine, waiting }: Place, job: AgentJob): Promise<AgentEnd> {
    const { id, request, stop, leave, hurry } = this.#run
    const { events, journal } = this.#services
    const { link, lost } = machine
    const journaled = this.#takenUp?.journaled ?? (await journal.find(id))
    if (journaled === undefined) throw new VivariumError('internal', `The run of ${id} was not journaled.`)
    const started = performance.now()
    let begun: number | undefined
    // Its output is ours from here on: nobody else may take any of it.
    waiting?.release()
    const end = await runAgent({
      agent: this.#services.agents[request.agent],
      job,
      link,
      execId: journaled.execId,
      isStarted: waiting !== undefined,
      checkpoint: this.#takenUp && ((await events.checkpoint(id)) as RunCheckpoint | undefined),
      lost,
      recorder: this.#recorder,
      stop,
      leave,
      hurry,
      timings: this.#timings(machine),
      timeoutSeconds: request.timeoutSeconds,
      clock: this.#clock,
      wake: () => this.#wake(machine),
      onBegun: () => {
        begun = performance.now()
      },
    })
    if (begun !== undefined) this.#phases.add('first output', begun - started)
    this.#phases.add('agent run', performance.now() - (begun ?? started))
    return end
  }

  async #collect(machine: Machine, conversation: ConversationFiles | undefined): Promise<void> {
    const services = this.#services
    const [run, recorder] = [this.#run, this.#recorder]
    if (this.#lost.signal.aborted) {
      await recorder.log('warn', 'The files are lost with the machine.', { code: 'results_incomplete' })
      return
    }
    const { collectMs } = this.#timings(machine)
    const deadline = () => AbortSignal.any([this.#clock.deadline(collectMs), run.hurry, this.#lost.signal])
    await bringBack({ services, run, link: machine.link, conversation, recorder, deadline })
  }

  /** What becomes of the machine when the run is over. */
  #leaving(place: Place): AsyncDisposable & { isLeft: boolean } {
    const leaving = {
      isLeft: false,
      [Symbol.asyncDispose]: () => (leaving.isLeft ? this.#leaveRunning(place) : this.#leave(place)),
    }
    return leaving
  }

  /** Leaves the machine to the next orchestrator. Requests to the model may end first, so their way out is closed last. Never rejects. */
  async #leaveRunning({ machine, session }: Place): Promise<void> {
    this.#egress.end()
    await this.#attempt('leave its machine', () => this.#services.machines.leave(machine.id))
    await this.#egress.close(session)
  }

  /** Keeps the machine where that was asked for and it is still there; else it goes, and its way out with it. Never rejects. */
  async #leave({ machine, session, keepUntil }: Place): Promise<void> {
    const { keepVmSeconds } = this.#run.request
    const until = keepVmSeconds === undefined ? keepUntil : Date.now() + keepVmSeconds * 1000
    if (until !== null && new Date(until).getTime() > Date.now() && !this.#lost.signal.aborted) {
      await session.settled()
      this.#egress.end()
      try {
        await this.#services.kept.keep(machine, new Date(until), session)
        await this.#egress.save(session)
        return
      } catch (error) {
        const { message } = toVivariumError(error)
        await this.#recorder.log('warn', `The machine could not be kept: ${message}`)
      }
    }
    // The machines' own journal finds what is left at the next start; the task's outcome stands.
    await this.#attempt('remove its machine', () => machine.destroy())
    await this.#egress.close(session)
    this.#egress.end()
  }

  #clockReading(): ClockReading {
    const { ranMs, isStopped } = this.#clock.reading
    return { ranMs, clockAt: isStopped ? null : new Date() }
  }

  /** Something whose failure must not end the run. */
  async #attempt(what: string, step: () => Promise<void>): Promise<void> {
    try {
      await step()
    } catch (error) {
      this.#services.log.error({ err: error, taskId: this.#run.id }, `could not ${what}`)
    }
  }

  #wake(machine: Machine): Promise<void> {
    const deadline = AbortSignal.timeout(this.#timings(machine).prepareMs)
    return this.#halts.wake(AbortSignal.any([deadline, this.#run.hurry]))
  }

  async #savePhases(): Promise<void> {
    await this.#services.store.update(this.#run.id, { phasesJson: JSON.stringify(this.#phases) })
  }

  #timings({ timeScale }: Machine): Timings {
    return scaled(this.#services.settings.timings, timeScale)
  }
}
