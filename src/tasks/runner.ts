import { randomUUID } from 'node:crypto'
import type { AgentJob, ConversationFiles } from '../agents/types.ts'
import { toVivariumError } from '../contracts/errors.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { Machine } from '../machines/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { acquireMachine } from './acquire.ts'
import type { Place } from './acquire.ts'
import { runAgent } from './agent-run.ts'
import type { AgentEnd } from './agent-run.ts'
import { collect } from './collect.ts'
import { Egress } from './egress.ts'
import { Halts } from './halts.ts'
import { Phases } from './phases.ts'
import { Recorder } from './recorder.ts'
import { RunClock } from './run-clock.ts'
import type { Run, RunServices } from './run.ts'
import { scaled } from './settings.ts'
import type { Timings } from './settings.ts'
import { restoreState, storeState } from './state.ts'
import { StatusBoard } from './status-board.ts'
import { reasonOf } from './stop.ts'
import type { Origin } from './task-store.ts'
import type { Ending } from './verdict.ts'
import { judge } from './verdict.ts'
import { prepareWorkspace } from './workspace.ts'

/** Takes a task from its machine's start to its last file. Everything it opens is closed when it resolves; never rejects. */
export async function runTask(services: RunServices, run: Run): Promise<Ending> {
  const recorder = new Recorder(services.openWriter(run.id), (error) => {
    services.log.error({ err: error, taskId: run.id }, 'events could not be stored')
    const { code, message } = toVivariumError(error, 'storage_failed')
    run.stop.stop(code, `What happened could not be stored: ${message}`)
  })
  try {
    return await new TaskRun(services, run, recorder).perform()
  } catch (error) {
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
  readonly #phases = new Phases()
  readonly #clock = new RunClock()
  readonly #board: StatusBoard
  readonly #halts: Halts
  readonly #egress: Egress
  readonly #lost = new AbortController()
  /** Set once the task has it. */
  #machineId: string | undefined

  constructor(services: RunServices, run: Run, recorder: Recorder) {
    const { store, machines, log } = services
    this.#services = services
    this.#run = run
    this.#recorder = recorder
    this.#board = new StatusBoard(run.id, store, recorder)
    this.#halts = new Halts({ taskId: run.id, machines, clock: this.#clock, board: this.#board, log })
    this.#egress = new Egress(services, run, recorder, (hold) => this.#halts.held(hold))
  }

  async perform(): Promise<Ending> {
    await using cleanup = new AsyncDisposableStack()
    cleanup.use(this.#clock)
    const { request, stop, userId } = this.#run
    const { continues } = request
    const origin = continues === undefined ? undefined : await this.#services.store.origin(userId, continues)
    cleanup.defer(() => this.#savePhases())
    const place = await this.#acquire(origin)
    cleanup.defer(() => this.#leave(place))
    cleanup.use(this.#halts)
    this.#machineId = place.machine.id
    this.#halts.machineChanged(place.machine.info())
    void this.#watch(place.machine)
    if (place.waiting === undefined) await this.#prepare(place, origin)
    stop.signal.throwIfAborted()

    const job = this.#job(place, origin)
    const { conversation } = this.#services.agents[request.agent]
    if (conversation !== undefined) await this.#services.store.update(this.#run.id, { sessionId: job.sessionId })
    await this.#board.enter('running')
    const end = await this.#runAgent(place, job)
    const ending = judge(end, place.session.totals(), this.#egress.modelError)

    await this.#wake(place.machine)
    await this.#board.enter('collecting')
    await this.#phases.timed('collect', () => this.#collect(place.machine, conversation?.(job.sessionId)))
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

  #showStart({ phases, state }: MachineInfo): void {
    const fresh = this.#phases.started(phases)
    if (state !== 'booting') return
    for (const name of fresh) this.#board.step(name, `Starting the machine: ${name}`)
  }

  /** Never rejects, and outlives the run when nothing happens to the machine. */
  async #watch(machine: Machine): Promise<void> {
    const why = await machine.lost
    this.#lost.abort()
    this.#run.stop.stop('guest_lost', `The machine was lost: ${why}`)
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

  /** A conversation goes on under its own name, unless it branches off. */
  #job({ waiting }: Place, origin: Origin | undefined): AgentJob {
    const { userId, request } = this.#run
    const agent = this.#services.agents[request.agent]
    const resumes = agent.conversation === undefined ? null : (origin?.sessionId ?? null)
    const goesOn = request.fork === true ? null : resumes
    return {
      prompt: request.prompt,
      model: request.model ?? null,
      maxTurns: request.maxTurns ?? null,
      env: request.env ?? {},
      credentialKind: agent.needsModel ? this.#services.gateway.credentialKind(userId) : undefined,
      sessionId: waiting?.sessionId ?? goesOn ?? randomUUID(),
      resumes,
    }
  }

  async #runAgent({ machine, waiting }: Place, job: AgentJob): Promise<AgentEnd> {
    const { request, stop, hurry } = this.#run
    const { link, lost } = machine
    const started = performance.now()
    let begun: number | undefined
    // Its output is ours from here on: nobody else may take any of it.
    waiting?.release()
    const end = await runAgent({
      agent: this.#services.agents[request.agent],
      job,
      link,
      execId: waiting?.execId,
      lost,
      recorder: this.#recorder,
      stop,
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
    const { id: taskId, hurry } = this.#run
    const { blobs, settings, store } = this.#services
    if (this.#lost.signal.aborted) {
      await this.#recorder.log('warn', 'The files are lost with the machine.', { code: 'results_incomplete' })
      return
    }
    const { collectMs } = this.#timings(machine)
    const deadline = () => AbortSignal.any([this.#clock.deadline(collectMs), hurry, this.#lost.signal])
    const { link } = machine
    const transcriptPath = conversation && `${conversation.folder}/${conversation.transcript}`
    const collected = await collect({ taskId, link, blobs, settings, transcriptPath, signal: deadline() })
    const { files, patchBytes, problems, hasTranscript } = collected
    crashPoint('results collected')
    await store.addFiles(taskId, files)
    // A conversation of which nothing was written has not begun: there is nothing to resume.
    await store.update(taskId, { patchBytes, ...(hasTranscript ? {} : { sessionId: null }) })
    crashPoint('results recorded')
    for (const problem of problems) await this.#recorder.log('warn', problem, { code: 'results_incomplete' })

    const told = hasTranscript ? conversation : undefined
    const maxBytes = settings.maxStateBytes
    const missing = await storeState({ taskId, link, blobs, maxBytes, conversation: told, signal: deadline() })
    if (missing === undefined) await store.update(taskId, { hasState: 1 })
    else await this.#recorder.log('info', missing)
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
    try {
      await machine.destroy()
    } catch (error) {
      // The machines' own journal finds what is left at the next start; the task's outcome stands.
      this.#services.log.error({ err: error, taskId: this.#run.id }, 'machine could not be removed')
    }
    await this.#egress.close(session)
    this.#egress.end()
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
