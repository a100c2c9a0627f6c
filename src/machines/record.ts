import type { Failure } from '../contracts/errors.ts'
import type { MachineInfo, MachineState } from '../contracts/machine.ts'

type Identity = Pick<MachineInfo, 'id' | 'engine' | 'memoryMib' | 'vcpus' | 'createdAt'>
type Use = Pick<MachineInfo, 'userId' | 'taskId'>

/** What people are shown of one machine: whose it is, its state, and how long each step of its start took. */
export class MachineRecord {
  readonly #identity: Identity
  readonly #notify: (info: MachineInfo) => void
  readonly #phases: { name: string; startedMs: number; endedMs: number | undefined }[] = []
  #use: Use
  #origin: Pick<MachineInfo, 'startedFrom' | 'template'> = { startedFrom: 'boot', template: null }
  #keepUntil: string | null = null
  #state: MachineState = 'booting'
  #error: Failure | null = null

  constructor(identity: Identity, use: Use, notify: (info: MachineInfo) => void) {
    this.#identity = identity
    this.#use = use
    this.#notify = notify
  }

  get id(): string {
    return this.#identity.id
  }

  get state(): MachineState {
    return this.#state
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

  /** Known once it is decided what the machine starts from. */
  cameFrom(origin: Pick<MachineInfo, 'startedFrom' | 'template'>): void {
    this.#origin = origin
  }

  usedBy({ userId, taskId }: Use): void {
    this.#use = { userId, taskId }
    this.#keepUntil = null
    this.#notify(this.info())
  }

  keptUntil(until: string): void {
    this.#keepUntil = until
    this.#notify(this.info())
  }

  info(): MachineInfo {
    const phases = this.#phases.map(({ name, startedMs, endedMs }) => ({
      name,
      ms: Math.round((endedMs ?? performance.now()) - startedMs),
    }))
    const { id, ...size } = this.#identity
    const [state, error, keepUntil] = [this.#state, this.#error, this.#keepUntil]
    return { id, ...this.#use, state, ...size, ...this.#origin, keepUntil, phases, error }
  }

  #endPhase(): void {
    const last = this.#phases.at(-1)
    if (last !== undefined) last.endedMs ??= performance.now()
  }
}
