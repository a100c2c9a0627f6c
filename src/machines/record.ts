import type { Failure } from '../contracts/errors.ts'
import type { MachineInfo, MachineState } from '../contracts/machine.ts'

type Identity = Pick<MachineInfo, 'id' | 'userId' | 'taskId' | 'engine' | 'memoryMib' | 'vcpus' | 'createdAt'>

/** What people are shown of one machine: its state, and how long each step of its start took. */
export class MachineRecord {
  readonly #identity: Identity
  readonly #notify: (info: MachineInfo) => void
  readonly #phases: { name: string; startedMs: number; endedMs: number | undefined }[] = []
  #state: MachineState = 'booting'
  #error: Failure | null = null

  constructor(identity: Identity, notify: (info: MachineInfo) => void) {
    this.#identity = identity
    this.#notify = notify
  }

  get id(): string {
    return this.#identity.id
  }

  /** The step before has ended and `name` begins. */
  enter(name: string): void {
    if (this.#state !== 'booting') return // news of a step that came late
    this.#endPhase()
    this.#phases.push({ name, startedMs: performance.now(), endedMs: undefined })
    this.#notify(this.info())
  }

  become(state: MachineState, error?: Failure): void {
    this.#endPhase()
    this.#state = state
    if (error !== undefined) this.#error = error
    this.#notify(this.info())
  }

  info(): MachineInfo {
    const phases = this.#phases.map(({ name, startedMs, endedMs }) => ({
      name,
      ms: Math.round((endedMs ?? performance.now()) - startedMs),
    }))
    return { ...this.#identity, startedFrom: 'boot', template: null, keepUntil: null, state: this.#state, phases, error: this.#error }
  }

  #endPhase(): void {
    const last = this.#phases.at(-1)
    if (last !== undefined) last.endedMs ??= performance.now()
  }
}
