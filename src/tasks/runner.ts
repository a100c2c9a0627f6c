import type { Agent, AgentJob } from '../agents/types.ts'
import type { Blobs } from '../blobs/types.ts'
import { toVivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { AgentName, Phase, TaskStatus } from '../contracts/task.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { OpenEventWriter } from '../events/types.ts'
import type { EgressSession, Gateway } from '../gateway/types.ts'
import type { Machine, Machines } from '../machines/types.ts'
import type { Logger } from '../telemetry/types.ts'
import { runAgent } from './agent-run.ts'
import { collect } from './collect.ts'
import { Recorder } from './recorder.ts'
import type { TaskSettings, Timings } from './settings.ts'
import type { StopSwitch } from './stop.ts'
import { reasonOf } from './stop.ts'
import type { StoredRequest, TaskStore } from './task-store.ts'
import type { Ending, ModelError } from './verdict.ts'
import { judge } from './verdict.ts'
import { prepareWorkspace } from './workspace.ts'

/** What a run needs of the rest of the house. */
export interface RunServices {
  store: TaskStore
  openWriter: OpenEventWriter
  blobs: Blobs
  machines: Machines
  gateway: Gateway
  agents: Readonly<Record<AgentName, Agent>>
  settings: TaskSettings
  log: Logger
}

/** One task on its way. Nothing of it is shared with another task. */
export interface Run {
  id: string
  userId: string
  request: StoredRequest
  stop: StopSwitch
  /** Aborts when there is no time left to be patient. */
  hurry: AbortSignal
}

/** Factor on waits for a process that has nothing left to do: emulation is slow, but not at sleeping. */
const MAX_LINGER_SCALE = 4

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
  readonly #machineId = newId('vm')
  /** Of the start, as the machine tells them, then of the work. */
  #startPhases: Phase[] = []
  readonly #phases: Phase[] = []
  readonly #lost = new AbortController()
  #phasesSeen = 0
  #modelError: ModelError | undefined

  constructor(services: RunServices, run: Run, recorder: Recorder) {
    this.#services = services
    this.#run = run
    this.#recorder = recorder
  }

  async perform(): Promise<Ending> {
    await using cleanup = new AsyncDisposableStack()
    const { request, stop, hurry } = this.#run
    await this.#enter('starting', { startedAt: new Date().toISOString(), vmId: this.#machineId })
    stop.signal.throwIfAborted()
    cleanup.defer(() => this.#savePhases())
    const session = this.#openGateway()
    cleanup.defer(() => this.#closeGateway(session))
    const machine = await this.#boot(session)
    cleanup.defer(() => this.#destroy(machine))
    void this.#watch(machine)
    await this.#prepare(machine)
    stop.signal.throwIfAborted()

    await this.#enter('running')
    const agent = this.#services.agents[request.agent]
    const job = this.#job(agent)
    const timings = this.#timings(machine)
    const { link, lost } = machine
    const { timeoutSeconds } = request
    const recorder = this.#recorder
    const end = await this.#timed('agent run', () =>
      runAgent({ agent, job, link, lost, recorder, stop, hurry, timings, timeoutSeconds }),
    )
    const ending = judge(end, session.totals(), request, this.#modelError)

    await this.#enter('collecting')
    await this.#timed('collect', () => this.#collect(machine, agent.transcriptPath(job)))
    return ending
  }

  /** The row first, then the event: who has seen the event finds the row at least as far. */
  async #enter(status: TaskStatus, change: { startedAt?: string; vmId?: string } = {}): Promise<void> {
    await this.#services.store.update(this.#run.id, { status, ...change })
    await this.#recorder.write([{ type: 'status', status, vmId: this.#machineId }])
  }

  #openGateway(): EgressSession {
    const { id: taskId, userId, request, stop } = this.#run
    const session = this.#services.gateway.open({
      machineId: this.#machineId,
      userId,
      taskId,
      policy: networkPolicy(request),
      maxCostUsd: request.maxCostUsd,
      onUsage: ({ model, costUsd, complete, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens }) => {
        const tokens = { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens }
        this.#recorder.note({ type: 'usage', model, costUsd, complete, ...tokens })
        void this.#saveTotals(session)
      },
      onEgress: (decision) => this.#recorder.note({ type: 'egress', ...decision }),
      onModelError: (error) => {
        this.#modelError = error
        // Claude Code would try a refused credential again for minutes.
        if (error.status === 401) stop.stop('model_error', `The model refused the credential: ${error.message}`)
      },
    })
    return session
  }

  async #closeGateway(session: EgressSession): Promise<void> {
    try {
      await session.close()
    } catch (error) {
      this.#services.log.error({ err: error, taskId: this.#run.id }, 'gateway session could not be closed')
    }
    await this.#saveTotals(session)
  }

  async #saveTotals(session: EgressSession): Promise<void> {
    const { usage, costUsd } = session.totals()
    try {
      await this.#services.store.update(this.#run.id, { ...usage, costUsd })
    } catch (error) {
      this.#services.log.error({ err: error, taskId: this.#run.id }, 'cost could not be stored')
    }
  }

  async #boot(session: EgressSession): Promise<Machine> {
    const { id: taskId, userId, request, stop } = this.#run
    return this.#services.machines.create({
      id: this.#machineId,
      userId,
      taskId,
      memoryMib: request.memoryMib,
      vcpus: request.vcpus,
      egress: (socket) => session.accept(socket),
      onChange: (info) => this.#showPhases(info),
      signal: stop.signal,
    })
  }

  #showPhases({ phases, state }: MachineInfo): void {
    this.#startPhases = phases
    if (state !== 'booting') return
    for (const { name } of phases.slice(this.#phasesSeen)) {
      const message = `Starting the machine: ${name}`
      this.#recorder.note({ type: 'status', status: 'starting', phase: name, message, vmId: this.#machineId })
    }
    this.#phasesSeen = phases.length
  }

  /** Never rejects, and outlives the run when nothing happens to the machine. */
  async #watch(machine: Machine): Promise<void> {
    const why = await machine.lost
    this.#lost.abort()
    this.#run.stop.stop('guest_lost', `The machine was lost: ${why}`)
  }

  async #prepare(machine: Machine): Promise<void> {
    const { id: taskId, request, stop } = this.#run
    const { blobs, settings } = this.#services
    await this.#timed('workspace', () =>
      prepareWorkspace({
        taskId,
        request,
        link: machine.link,
        blobs,
        exclude: settings.exclude,
        signal: stop.signal,
        timeoutMs: this.#timings(machine).prepareMs,
        onStep: (message) =>
          this.#recorder.write([
            { type: 'status', status: 'starting', phase: 'workspace', message, vmId: this.#machineId },
          ]),
      }),
    )
    await this.#savePhases()
  }

  #job(agent: Agent): AgentJob {
    const { id: taskId, userId, request } = this.#run
    return {
      taskId,
      prompt: request.prompt,
      model: request.model ?? null,
      maxTurns: request.maxTurns ?? null,
      maxCostUsd: request.maxCostUsd ?? null,
      env: request.env ?? {},
      credentialKind: agent.needsModel ? this.#services.gateway.credentialKind(userId) : undefined,
    }
  }

  async #collect(machine: Machine, transcriptPath: string | undefined): Promise<void> {
    const { id: taskId, hurry } = this.#run
    const { blobs, settings, store } = this.#services
    if (this.#lost.signal.aborted) {
      await this.#recorder.log('warn', 'The files are lost with the machine.', { code: 'results_incomplete' })
      return
    }
    const deadline = AbortSignal.timeout(this.#timings(machine).collectMs)
    const signal = AbortSignal.any([deadline, hurry, this.#lost.signal])
    const { files, patchBytes, problems } = await collect({
      taskId,
      link: machine.link,
      blobs,
      settings,
      transcriptPath,
      signal,
    })
    await store.addFiles(taskId, files)
    await store.update(taskId, { patchBytes })
    for (const problem of problems) await this.#recorder.log('warn', problem, { code: 'results_incomplete' })
  }

  async #destroy(machine: Machine): Promise<void> {
    try {
      await machine.destroy()
    } catch (error) {
      // The machines' own journal finds what is left at the next start; the task's outcome stands.
      this.#services.log.error({ err: error, taskId: this.#run.id }, 'machine could not be removed')
    }
  }

  async #timed<Result>(name: string, action: () => Promise<Result>): Promise<Result> {
    const begun = performance.now()
    try {
      return await action()
    } finally {
      this.#phases.push({ name, ms: Math.round(performance.now() - begun) })
    }
  }

  async #savePhases(): Promise<void> {
    const phasesJson = JSON.stringify([...this.#startPhases, ...this.#phases])
    await this.#services.store.update(this.#run.id, { phasesJson })
  }

  #timings({ timeScale }: Machine): Timings {
    const { timings } = this.#services.settings
    return {
      ...timings,
      prepareMs: timings.prepareMs * timeScale,
      lingerMs: timings.lingerMs * Math.min(timeScale, MAX_LINGER_SCALE),
      terminateMs: timings.terminateMs * timeScale,
      killMs: timings.killMs * timeScale,
      collectMs: timings.collectMs * timeScale,
    }
  }
}

/** The task's own rules, and the host of its repository: asking for a clone is asking for that way out. */
function networkPolicy({ network, repo }: StoredRequest): { allow: string[] } | undefined {
  if (repo === undefined) return network
  return { allow: [...(network?.allow ?? []), new URL(repo.url).host] }
}
