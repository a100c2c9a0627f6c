import { VivariumError } from '../contracts/errors.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { HousedMachine } from './housed-machine.ts'
import { MachineRecord, type MachineIdentity } from './record.ts'
import type { MachineUse } from './types.ts'

/** A machine from the moment it is asked for until nothing is left of it. */
export interface Entry {
  readonly record: MachineRecord
  /** Ends the start with a reason. */
  readonly start: AbortController
  /** Resolves when the machine is there; rejects when it has failed and everything it made is removed. */
  readonly started: PromiseWithResolvers<HousedMachine>
  machine: HousedMachine | undefined
  /** Hears of every change; another one's with each use of the machine. */
  onChange: MachineUse['onChange']
  /** Folder of the template it started from. */
  template: string | undefined
}

/** The machines of one orchestrator, those that are starting included, and who hears of their changes. */
export class Entries {
  readonly #entries = new Map<string, Entry>()
  readonly #listeners = new Set<(info: MachineInfo) => void>()

  add(identity: MachineIdentity, use: Pick<MachineUse, 'userId' | 'taskId' | 'onChange'>): Entry {
    const record = new MachineRecord(identity, use, (info) => this.#notify(info))
    const started = Promise.withResolvers<HousedMachine>()
    started.promise.catch(() => {}) // its creator hears of it
    const { onChange } = use
    const entry = { record, start: new AbortController(), started, machine: undefined, onChange, template: undefined }
    this.#entries.set(identity.id, entry)
    return entry
  }

  find(id: string): Entry | undefined {
    return this.#entries.get(id)
  }

  /** Throws `not_found`. */
  get(id: string): Entry {
    const entry = this.#entries.get(id)
    if (entry === undefined) throw new VivariumError('not_found', `There is no machine ${id}.`)
    return entry
  }

  /** A machine that is there: neither starting nor on its way out. Throws `not_found` or `conflict`. */
  housed(id: string): { entry: Entry; machine: HousedMachine } {
    const entry = this.get(id)
    const { machine, record } = entry
    if (machine !== undefined && record.state !== 'stopping') return { entry, machine }
    throw new VivariumError('conflict', `Machine ${id} is ${record.state}; it can be used while it is ready.`)
  }

  all(): Entry[] {
    return [...this.#entries.values()]
  }

  /** Nothing is left of a machine. */
  forget(id: string): void {
    const entry = this.#entries.get(id)
    if (entry === undefined) return
    this.#entries.delete(id)
    entry.record.become('gone')
    entry.onChange?.(entry.record.info())
  }

  /** Calls `listener` on every change of any machine; returns the unsubscribe function. */
  watch(listener: (info: MachineInfo) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #notify(info: MachineInfo): void {
    this.#entries.get(info.id)?.onChange?.(info)
    for (const listener of this.#listeners) listener(info)
  }
}
