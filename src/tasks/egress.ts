import type { NetworkPolicy } from '../contracts/network.ts'
import type { NewEvent } from '../contracts/event.ts'
import type { EgressContext, EgressSession, ModelUsage } from '../gateway/types.ts'
import type { Recorder } from './recorder.ts'
import type { Run, RunServices } from './run.ts'
import type { StoredRequest } from './task-store.ts'
import type { ModelError } from './verdict.ts'

/** The ways out of one run's machines, and what is told of them while the run lasts. */
export class Egress {
  readonly #services: RunServices
  readonly #run: Run
  readonly #recorder: Recorder
  readonly #onHeld: EgressContext['onHeld']
  #isOver = false
  modelError: ModelError | undefined

  constructor(services: RunServices, run: Run, recorder: Recorder, onHeld: NonNullable<EgressContext['onHeld']>) {
    this.#services = services
    this.#run = run
    this.#recorder = recorder
    this.#onHeld = (hold) => {
      if (!this.#isOver) onHeld(hold)
    }
  }

  open(machineId: string): EgressSession {
    const { id: taskId, userId, request, stop } = this.#run
    const session = this.#services.gateway.open({
      ...egressContext(this.#services.agents, { machineId, userId, taskId, request }),
      onUsage: (usage) => {
        if (!this.#isOver) this.#recorder.note(usageEvent(usage))
        void this.save(session)
      },
      onEgress: (decision) => {
        if (!this.#isOver) this.#recorder.note({ type: 'egress', ...decision })
      },
      onNotice: (message) => {
        if (!this.#isOver) this.#recorder.note({ type: 'log', level: 'warn', message })
      },
      onModelError: (error) => {
        this.modelError = error
        // Claude Code would try a refused credential again for minutes.
        if (error.status === 401) stop.stop('model_error', `The model refused the credential: ${error.message}`)
      },
      ...(this.#onHeld && { onHeld: this.#onHeld }),
    })
    return session
  }

  /** Never rejects. */
  async close(session: EgressSession): Promise<void> {
    try {
      await session.close()
    } catch (error) {
      this.#services.log.error({ err: error, taskId: this.#run.id }, 'gateway session could not be closed')
    }
    await this.save(session)
  }

  /** Stores what was spent so far. Never rejects. */
  async save(session: EgressSession): Promise<void> {
    const { usage, costUsd } = session.totals()
    try {
      await this.#services.store.update(this.#run.id, { ...usage, costUsd })
    } catch (error) {
      this.#services.log.error({ err: error, taskId: this.#run.id }, 'cost could not be stored')
    }
  }

  /** The task's log is at its end: what a kept machine does from here on is not written into it. */
  end(): void {
    this.#isOver = true
  }
}

/** What a task's machine may reach, and who pays. */
export function egressContext(
  agents: RunServices['agents'],
  { request, ...whose }: { machineId: string; userId: string; taskId: string; request: StoredRequest },
): EgressContext {
  const { needsModel } = agents[request.agent]
  return { ...whose, policy: networkPolicy(request), needsModel, maxCostUsd: request.maxCostUsd }
}

/** The event that tells of a request which was counted. */
export function usageEvent(usage: ModelUsage): NewEvent {
  const { requestId, model, costUsd, chargedUsd, complete, overBudgetUsd } = usage
  const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens } = usage
  return {
    type: 'usage',
    requestId,
    model,
    costUsd,
    ...(chargedUsd === costUsd ? {} : { chargedUsd }),
    complete,
    ...(overBudgetUsd === undefined ? {} : { overBudgetUsd }),
    inputTokens,
    outputTokens,
    cacheReadTokens,
    cacheWriteTokens,
  }
}

/** The task's own rules, and the host of its repository: asking for a clone is asking for that way out. */
function networkPolicy({ network, repo }: StoredRequest): NetworkPolicy | undefined {
  if (repo === undefined) return network
  return { ...network, allow: [...(network?.allow ?? []), new URL(repo.url).host] }
}
