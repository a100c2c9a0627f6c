import type { MachineInfo } from '../contracts/machine.ts'
import type { EgressSession } from '../gateway/types.ts'
import type { Machine, Machines } from '../machines/types.ts'
import type { Logger } from '../telemetry/types.ts'

/** Machines whose task has ended and that stay for a while, each with the way out that its task had. */
export class KeptMachines implements AsyncDisposable {
  readonly #machines: Machines
  readonly #log: Logger
  readonly #sessions = new Map<string, EgressSession>()
  readonly #suspensions = new Map<string, Promise<void>>()
  readonly #unwatch: () => void

  constructor(machines: Machines, log: Logger) {
    this.#machines = machines
    this.#log = log
    this.#unwatch = machines.watch(({ id, state }) => {
      if (state === 'gone') void this.release(id)
    })
  }

  /** The machine that was kept of a finished task, if it is still there and nothing has taken it over. */
  of(taskId: string): MachineInfo | undefined {
    return this.#machines
      .list()
      .find(
        (info) =>
          info.taskId === taskId && info.keepUntil !== null && info.state !== 'stopping' && info.state !== 'gone',
      )
  }

  /** Keeps a machine, and its way out for as long as it is there. Rejects when it can't be kept; it is its caller's then. */
  async keep(machine: Machine, until: Date, session: EgressSession): Promise<void> {
    this.#sessions.set(machine.id, session)
    try {
      await this.#machines.keep(machine.id, until)
    } catch (error) {
      this.#sessions.delete(machine.id)
      throw error
    }
  }

  /** Minds the way out of a machine that is kept already. */
  add(machineId: string, session: EgressSession): void {
    this.#sessions.set(machineId, session)
  }

  /** Closes the way out that a machine's finished task had. Never rejects. */
  async release(machineId: string): Promise<void> {
    const session = this.#sessions.get(machineId)
    this.#sessions.delete(machineId)
    try {
      await session?.close()
    } catch (error) {
      this.#log.error({ err: error, machineId }, 'gateway session could not be closed')
    }
  }

  /** Suspends a kept machine, once for all who ask. Rejects with `conflict` where its state or engine forbids it. */
  suspend(machineId: string): Promise<void> {
    const underWay = this.#suspensions.get(machineId)
    if (underWay !== undefined) return underWay
    const isSuspended = this.#machines.list().some(({ id, state }) => id === machineId && state === 'suspended')
    if (isSuspended) return Promise.resolve()
    const suspension = this.#machines.suspend(machineId).finally(() => this.#suspensions.delete(machineId))
    this.#suspensions.set(machineId, suspension)
    return suspension
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unwatch()
    await Promise.all([...this.#sessions.keys()].map((id) => this.release(id)))
  }
}
