import { access, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VivariumError, type ErrorCode } from '../contracts/errors.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { NetworkPolicy } from '../contracts/network.ts'
import type { GuestLink } from '../link/types.ts'
import type { Logger } from '../telemetry/types.ts'
import { waitForAgent } from './agent-hello.ts'
import type { Dependencies } from './dependencies.ts'
import type { EgressTaker } from './egress-port.ts'
import { STATE_FILE } from './folders.ts'
import type { Housing } from './housing.ts'
import { isRunning } from './process-identity.ts'
import type { MachineRecord } from './record.ts'
import { SharedTurns } from './shared-turns.ts'
import type { Machine, Vmm } from './types.ts'

/** How long requests to the model that are under way may take to end before a machine is suspended: a cut one is paid twice. */
const DRAIN_MS = 60_000
/** How long a guest may take to come to rest before it is suspended. One at rest goes on faster; one at work is saved as it is. */
const REST_MS = 1000

export interface HousedMachineParts {
  record: MachineRecord
  housing: Housing
  /** Undefined for one that is suspended. */
  vmm: Vmm | undefined
  /** Starts a VMM from what `save` left in the machine's own disk folder. */
  restore: (signal: AbortSignal) => Promise<Vmm>
  timeScale: number
  hasBaseline: boolean
  /** See `Machine`. */
  crashed: string | undefined
  /** Called when nothing of the machine is left. */
  forget: () => void
  log: Logger
}

/** A suspended machine as another one may be made from it. */
export interface SuspendedMachine {
  folder: string
  dependsOn: Dependencies
}

/** A machine from its agent's first hello to its end, through any number of suspensions. Owns everything made for it. */
export class HousedMachine implements Machine {
  readonly id: string
  readonly link: GuestLink
  readonly timeScale: number
  readonly lost: Promise<string>
  readonly crashed: string | undefined
  /** See `Machine`; one that has had a use has it no more. */
  hasBaseline: boolean
  readonly #parts: HousedMachineParts
  #vmm: Vmm | undefined
  readonly #resolveLost: (reason: string) => void
  /** Suspending and resuming take turns; copies of the suspended machine share one. */
  readonly #turns = new SharedTurns()
  readonly #ending = new AbortController()
  #destroyed: Promise<void> | undefined

  constructor(parts: HousedMachineParts) {
    this.#parts = parts
    this.id = parts.record.id
    this.link = parts.housing.link
    this.timeScale = parts.timeScale
    this.hasBaseline = parts.hasBaseline
    this.crashed = parts.crashed
    const { promise, resolve } = Promise.withResolvers<string>()
    this.lost = promise
    this.#resolveLost = resolve
    this.#watch(parts.vmm)
    void this.link.lost.then((how) => this.lose(how))
  }

  info(): MachineInfo {
    return this.#parts.record.info()
  }

  /** What it may reach, where it has no task that says so. */
  get network(): NetworkPolicy | undefined {
    return this.#parts.housing.network
  }

  async dumpMemory(path: string): Promise<void> {
    await this.#running().dumpMemory(path)
  }

  /** Saves the machine to its disk folder and ends its VMM. One that can't be saved goes on. */
  suspend(): Promise<void> {
    return this.#turns.alone(async () => {
      const { record, housing } = this.#parts
      if (record.state === 'suspended') return
      const vmm = this.#running()
      record.become('suspending')
      try {
        await this.link.park({ drainMs: DRAIN_MS }, this.#ending.signal)
        await this.#rest(vmm)
        await vmm.pause()
        await vmm.save(this.#ending.signal)
        if (record.state !== 'suspending') throw this.#gone()
        this.#vmm = undefined // what becomes of it does not matter any more: the disk has all of the machine
        await housing.suspended()
        await vmm.kill()
      } catch (error) {
        await this.#goOn(vmm)
        throw error
      }
      record.become('suspended')
    })
  }

  /**
   * Starts the machine from its disk folder again; resolves when its agent has answered. Rejects with `guest_lost` where the
   * machine runs no more. One that can't be started stays suspended.
   */
  resume(signal?: AbortSignal): Promise<void> {
    return this.#turns.alone(async () => {
      const { record, restore } = this.#parts
      if (record.state === 'ready') return this.#requireProcess()
      if (record.state !== 'suspended') throw this.#conflict()
      record.become('resuming')
      let vmm: Vmm
      try {
        vmm = await restore(signal === undefined ? this.#ending.signal : AbortSignal.any([this.#ending.signal, signal]))
      } catch (error) {
        await this.#stayOnDisk(error)
        throw error
      }
      this.#watch(vmm)
      try {
        // Not `signal`: from here on the machine has to come up, whoever wanted it.
        await this.#wake(vmm)
      } catch (error) {
        this.lose(messageOf(error))
        throw error
      }
    })
  }

  /** Goes on with a VMM that another orchestrator has started; resolves when its agent has answered, or the machine is lost. */
  adopt(find: () => Promise<Vmm | undefined>): Promise<void> {
    return this.#turns.alone(async () => {
      try {
        const vmm = await find()
        if (vmm === undefined) throw this.#gone()
        this.#watch(vmm)
        // It may have been about to be suspended: what it was saved as is past.
        await vmm.resume()
        await this.#wake(vmm)
      } catch (error) {
        this.lose(messageOf(error))
      }
    })
  }

  /** Calls `use` with what a suspended machine is saved as, which does not change meanwhile. Several may use it at once. */
  withSaved<T>(use: (saved: SuspendedMachine) => Promise<T>): Promise<T> {
    return this.#turns.together(() => {
      const { record, housing } = this.#parts
      if (record.state !== 'suspended') throw this.#conflict()
      return use({ folder: housing.folders.diskDir, dependsOn: housing.dependsOn })
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

  /** Gives the guest's egress connections, present and later ones, to `take`; returns what took them before. */
  takeEgress(take: EgressTaker | undefined): EgressTaker | undefined {
    return this.#parts.housing.egress.connect(take)
  }

  /**
   * Lets go of the machine and leaves it as it is, suspended or running, for the next orchestrator. One that is on its way out goes. Its guest is
   * parked, so that no request to the model is cut; one that does not park in time is left all the same.
   */
  leave(): Promise<void> {
    this.#destroyed ??= this.#leave()
    return this.#destroyed
  }

  async #leave(): Promise<void> {
    if (this.info().state === 'ready') await this.#turns.alone(() => this.#parkToLeave())
    await this.#end(() => true)
  }

  async #parkToLeave(): Promise<void> {
    try {
      const deadline = AbortSignal.timeout(2 * DRAIN_MS)
      await this.link.park({ drainMs: DRAIN_MS }, AbortSignal.any([this.#ending.signal, deadline]))
    } catch (err) {
      this.#parts.log.warn({ err, machineId: this.id }, 'a machine was left without being parked')
    }
  }

  /** Reports the machine as lost, unless it is being destroyed, when its parts are expected to go. */
  lose(reason: string, code: ErrorCode = 'guest_lost'): void {
    const { state } = this.info()
    if (this.#destroyed !== undefined || state === 'stopping' || state === 'gone') return
    this.#parts.record.become('stopping', { code, message: reason })
    this.#resolveLost(reason)
  }

  /** Lets go of a lost machine and ends its VMM; its disk and its row in the journal stay, for `reopenMachine`. */
  surrender(): Promise<void> {
    this.#destroyed ??= this.#surrender()
    return this.#destroyed
  }

  async #surrender(): Promise<void> {
    this.#ending.abort(this.#gone())
    await this.#turns.over()
    await this.#vmm?.kill()
    await this.#parts.housing.leave({ isRunning: false })
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.#end(() => false)
    return this.#destroyed
  }

  /** Ends what is under way with the machine, then leaves or removes it. */
  async #end(mayStay: () => boolean): Promise<void> {
    const { record, housing, forget, log } = this.#parts
    const isLeft = () => mayStay() && record.state !== 'stopping' && record.state !== 'gone'
    if (!isLeft()) record.become('stopping')
    this.#ending.abort(new VivariumError('cancelled', 'The machine was destroyed.'))
    await this.#turns.over()
    if (isLeft()) {
      this.#vmm?.release()
      return housing.leave({ isRunning: this.#vmm !== undefined })
    }
    record.become('stopping')
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
    const { record, housing } = this.#parts
    if (record.state !== 'suspending' || this.#ending.signal.aborted) return
    this.#watch(vmm)
    try {
      await rm(this.#stateFile(), { force: true }) // what it was saved as is past once it goes on
      await housing.started(vmm.identity)
      await vmm.resume()
      await this.#wake(vmm)
    } catch (error) {
      this.lose(messageOf(error))
    }
  }

  /** After an attempt to start it from its disk failed: it is lost where it had begun to go on already. */
  async #stayOnDisk(cause: unknown): Promise<void> {
    try {
      // Without it the machine goes on from its disk alone, as it would have before.
      if (this.crashed === undefined) await access(this.#stateFile())
      await this.#parts.housing.suspended()
      this.#parts.record.become('suspended')
    } catch {
      this.lose(messageOf(cause)) // the reason for people; that its state is gone follows from it
    }
  }

  /** Lets a guest that runs again meet its host. */
  async #wake(vmm: Vmm): Promise<void> {
    const { link, timeScale } = this
    link.wake()
    await waitForAgent({ vmm, link, machineId: this.id, timeScale, signal: this.#ending.signal })
    this.#parts.record.become('ready')
  }

  async #rest(vmm: Vmm): Promise<void> {
    try {
      await vmm.settled(AbortSignal.any([this.#ending.signal, AbortSignal.timeout(REST_MS)]))
    } catch {
      this.#ending.signal.throwIfAborted() // otherwise it is at work, or gone, which the next step finds out
    }
  }

  #watch(vmm: Vmm | undefined): void {
    this.#vmm = vmm
    vmm?.onStall((why) => {
      if (this.#vmm !== vmm) return
      this.link.halt(why !== undefined)
      this.#parts.record.stall(why)
    })
    void vmm?.exited.then((how) => (this.#vmm === vmm ? this.lose(how) : undefined))
  }

  /** A process that was killed is gone a moment before we hear of it. */
  async #requireProcess(): Promise<void> {
    if (await isRunning(this.#running().identity)) return
    this.lose('its process is gone')
    throw this.#gone()
  }

  #running(): Vmm {
    if (this.#vmm === undefined || this.info().state !== 'ready') throw this.#conflict()
    return this.#vmm
  }

  #gone(): VivariumError {
    return new VivariumError('guest_lost', `Machine ${this.id} runs no more.`)
  }

  #conflict(): VivariumError {
    return new VivariumError('conflict', `Machine ${this.id} is ${this.info().state}; wait until that has changed.`)
  }

  #stateFile(): string {
    return join(this.#parts.housing.folders.diskDir, STATE_FILE)
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
