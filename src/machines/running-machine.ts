import type { MachineInfo } from '../contracts/machine.ts'
import type { GuestLink } from '../link/types.ts'
import type { Logger } from '../telemetry/types.ts'
import type { MachineRecord } from './record.ts'
import type { Machine, Vmm } from './types.ts'

/** A booted machine. Owns everything that was made for it. */
export class RunningMachine implements Machine {
  readonly id: string
  readonly link: GuestLink
  readonly timeScale: number
  readonly lost: Promise<string>
  readonly #record: MachineRecord
  readonly #vmm: Vmm
  readonly #resources: AsyncDisposableStack
  readonly #log: Logger
  readonly #resolveLost: (reason: string) => void
  #destroyed: Promise<void> | undefined

  constructor(parts: {
    record: MachineRecord
    link: GuestLink
    vmm: Vmm
    timeScale: number
    resources: AsyncDisposableStack
    log: Logger
  }) {
    this.id = parts.record.id
    this.link = parts.link
    this.timeScale = parts.timeScale
    this.#record = parts.record
    this.#vmm = parts.vmm
    this.#resources = parts.resources
    this.#log = parts.log
    const { promise, resolve } = Promise.withResolvers<string>()
    this.lost = promise
    this.#resolveLost = resolve
    void this.#vmm.exited.then((how) => this.lose(how))
    void this.link.lost.then((how) => this.lose(how))
  }

  info(): MachineInfo {
    return this.#record.info()
  }

  dumpMemory(path: string): Promise<void> {
    return this.#vmm.dumpMemory(path)
  }

  /** Reports the machine as lost, unless it is being destroyed, when its parts are expected to go. */
  lose(reason: string): void {
    if (this.#destroyed !== undefined || this.info().state !== 'ready') return
    this.#record.become('stopping', { code: 'guest_lost', message: reason })
    this.#resolveLost(reason)
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy()
    return this.#destroyed
  }

  async #destroy(): Promise<void> {
    if (this.info().state === 'ready') this.#record.become('stopping')
    try {
      await this.#resources.disposeAsync()
    } catch (err) {
      this.#log.error({ err, machineId: this.id }, 'a machine could not be removed; it stays in the journal')
      throw err
    }
  }
}
