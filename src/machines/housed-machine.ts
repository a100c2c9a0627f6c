import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { GuestLink } from '../link/types.ts'
import type { Logger } from '../telemetry/types.ts'
import { waitForAgent } from './agent-hello.ts'
import type { Housing } from './housing.ts'
import type { MachineRecord } from './record.ts'
import type { Machine, MachineUse, Vmm } from './types.ts'

/** How long requests to the model that are under way may take to end before a machine is suspended: a cut one is paid twice. */
const DRAIN_MS = 60_000

export interface HousedMachineParts {
  record: MachineRecord
  housing: Housing
  /** Undefined for one that is suspended. */
  vmm: Vmm | undefined
  /** Starts a VMM from what `save` left in the machine's own disk folder. */
  restore: (signal: AbortSignal) => Promise<Vmm>
  timeScale: number
  /** Called when nothing of the machine is left. */
  forget: () => void
  log: Logger
}

/** A machine from its agent's first hello to its end, through any number of suspensions. Owns everything made for it. */
export class HousedMachine implements Machine {
  readonly id: string
  readonly link: GuestLink
  readonly timeScale: number
  readonly lost: Promise<string>
  readonly #parts: HousedMachineParts
  #vmm: Vmm | undefined
  readonly #resolveLost: (reason: string) => void
  /** Suspending, resuming and copying take turns. */
  #turn: Promise<unknown> = Promise.resolve()
  readonly #ending = new AbortController()
  #destroyed: Promise<void> | undefined

  constructor(parts: HousedMachineParts) {
    this.#parts = parts
    this.id = parts.record.id
    this.link = parts.housing.link
    this.timeScale = parts.timeScale
    const { promise, resolve } = Promise.withResolvers<string>()
    this.lost = promise
    this.#resolveLost = resolve
    this.#watch(parts.vmm)
    void this.link.lost.then((how) => this.lose(how))
  }

  info(): MachineInfo {
    return this.#parts.record.info()
  }

  async dumpMemory(path: string): Promise<void> {
    await this.#running().dumpMemory(path)
  }

  /** Saves the machine to its disk folder and ends its VMM. One that can't be saved goes on. */
  suspend(): Promise<void> {
    return this.#inTurn(async () => {
      const { record, housing } = this.#parts
      if (record.state === 'suspended') return
      const vmm = this.#running()
      record.become('suspending')
      try {
        await this.link.park({ drainMs: DRAIN_MS }, this.#ending.signal)
        await vmm.pause()
        await vmm.save(this.#ending.signal)
        await housing.suspended()
      } catch (error) {
        await this.#goOn(vmm)
        throw error
      }
      this.#vmm = undefined
      await vmm.kill()
      record.become('suspended')
    })
  }

  /** Starts the machine from its disk folder again; resolves when its agent has answered. */
  resume(signal?: AbortSignal): Promise<void> {
    return this.#inTurn(async () => {
      const { record, housing, restore } = this.#parts
      if (record.state === 'ready') return
      if (record.state !== 'suspended') throw this.#conflict()
      const ended = signal === undefined ? this.#ending.signal : AbortSignal.any([this.#ending.signal, signal])
      record.become('resuming')
      let vmm: Vmm
      try {
        vmm = await restore(ended)
      } catch (error) {
        await housing.suspended()
        record.become('suspended')
        throw error
      }
      this.#watch(vmm)
      this.link.wake()
      try {
        // Not `signal`: from here on the machine has to come up, whoever wanted it.
        await this.#meetAgent(vmm)
      } catch (error) {
        this.lose(error instanceof Error ? error.message : String(error))
        throw error
      }
      await rm(join(housing.folders.diskDir, 'state'), { force: true })
      record.become('ready')
    })
  }

  /** Calls `use` with the disk folder of a suspended machine, which changes nothing of it meanwhile. */
  withSaved<T>(use: (folder: string) => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      const { record, housing } = this.#parts
      if (record.state !== 'suspended') throw this.#conflict()
      return use(housing.folders.diskDir)
    })
  }

  /** Parks the guest, waits until it is at rest, saves it into its disk folder, ends its VMM, and leaves the folder. */
  async saveAtRest(signal: AbortSignal): Promise<void> {
    const vmm = this.#running()
    this.#parts.record.become('suspending')
    await this.link.park({ drainMs: 0 }, signal)
    await vmm.settled(signal)
    await vmm.pause()
    await vmm.save(signal)
    this.#vmm = undefined
    await vmm.kill()
    this.#parts.housing.giveDiskAway()
  }

  /** Gives the guest's egress connections, present and later ones, to `take`. */
  takeEgress(take: NonNullable<MachineUse['egress']>): void {
    this.#parts.housing.egress.connect(take)
  }

  /** Lets go of a suspended machine and leaves it as it is, for the next orchestrator. */
  leave(): Promise<void> {
    this.#destroyed ??= this.#parts.housing.leave()
    return this.#destroyed
  }

  /** Reports the machine as lost, unless it is being destroyed, when its parts are expected to go. */
  lose(reason: string): void {
    const { state } = this.info()
    if (this.#destroyed !== undefined || state === 'stopping' || state === 'gone') return
    this.#parts.record.become('stopping', { code: 'guest_lost', message: reason })
    this.#resolveLost(reason)
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy()
    return this.#destroyed
  }

  async #destroy(): Promise<void> {
    const { record, housing, forget, log } = this.#parts
    if (record.state !== 'stopping') record.become('stopping')
    this.#ending.abort(new VivariumError('cancelled', 'The machine was destroyed.'))
    await this.#turn
    try {
      await this.#vmm?.kill()
      await housing[Symbol.asyncDispose]()
    } catch (err) {
      log.error({ err, machineId: this.id }, 'a machine could not be removed; it stays in the journal')
      throw err
    } finally {
      forget()
    }
  }

  /** Lets a machine go on that was to be suspended; it is lost if it can't. */
  async #goOn(vmm: Vmm): Promise<void> {
    if (this.#ending.signal.aborted) return
    try {
      await vmm.resume()
      this.link.wake()
      await this.#meetAgent(vmm)
      this.#parts.record.become('ready')
    } catch (error) {
      this.lose(error instanceof Error ? error.message : String(error))
    }
  }

  async #meetAgent(vmm: Vmm): Promise<void> {
    const { link, timeScale } = this
    await waitForAgent({ vmm, link, machineId: this.id, timeScale, signal: this.#ending.signal })
  }

  #watch(vmm: Vmm | undefined): void {
    this.#vmm = vmm
    void vmm?.exited.then((how) => (this.#vmm === vmm ? this.lose(how) : undefined))
  }

  #running(): Vmm {
    if (this.#vmm === undefined || this.info().state !== 'ready') throw this.#conflict()
    return this.#vmm
  }

  #conflict(): VivariumError {
    return new VivariumError('conflict', `Machine ${this.id} is ${this.info().state}; wait until that has changed.`)
  }

  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(step)
    this.#turn = done.catch(() => {}) // the caller hears of it
    return done
  }
}
