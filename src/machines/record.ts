import type { Failure } from '../contracts/errors.ts'
import type { MachineInfo, MachineState } from '../contracts/machine.ts'

export type MachineIdentity = Pick<MachineInfo, 'id' | 'engine' | 'memoryMib' | 'vcpus' | 'createdAt'>
type Use = Pick<MachineInfo, 'userId' | 'taskId'>

/** What people are shown of one machine: whose it is, its state, and how long each step of its start took. */
export class MachineRecord {
  readonly #identity: MachineIdentity
  readonly #notify: (info: MachineInfo) => void
  readonly #phases: { name: string; startedMs: number; endedMs: number | undefined }[] = []
  #use: Use
  #origin: Pick<MachineInfo, 'startedFrom' | 'template'> = { startedFrom: 'boot', template: null }
  #keepUntil: string | null = null
  #state: MachineState = 'booting'
  #error: Failure | null = null
  #stalled: string | undefined

  constructor(identity: MachineIdentity, use: Use, notify: (info: MachineInfo) => void) {
    const { id, engine, memoryMib, vcpus, createdAt } = identity
    this.#identity = { id, engine, memoryMib, vcpus, createdAt }
    this.#use = { userId: use.userId, taskId: use.taskId }
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

  /** A machine on its way out does not come back, whatever was under way in it. */
  become(state: MachineState, error?: Failure): void {
    if (this.#state === 'gone' || (this.#state === 'stopping' && state !== 'gone')) return
    this.#endPhase()
    this.#state = state
    if (error !== undefined) this.#error = error
    this.#notify(this.info())
  }

  /** Its guest stands still for want of something, or goes on. */
  stall(why: string | undefined): void {
    this.#stalled = why
    this.#notify(this.info())
  }

  /** Known once it is decided what the machine starts from. */
  cameFrom({ startedFrom, template }: Pick<MachineInfo, 'startedFrom' | 'template'>): void {
    this.#origin = { startedFrom, template }
  }

  /** Whose it is from now on, and until when it is kept where nobody's task needs it any more. */
  usedBy({ userId, taskId, keepUntil }: Use & Pick<MachineInfo, 'keepUntil'>): void {
    this.#use = { userId, taskId }
    this.#keepUntil = keepUntil
    this.#notify(this.info())
  }

  info(): MachineInfo {
    const phases = this.#phases.map(({ name, startedMs, endedMs }) => ({
      name,
      ms: Math.round((endedMs ?? performance.now()) - startedMs),
    }))
    const { id, ...size } = this.#identity
    const [state, error, keepUntil] = [this.#state, this.#error, this.#keepUntil]
    const stalled = this.#stalled === undefined ? {} : { stalled: this.#stalled }
    return { id, ...this.#use, state, ...stalled, ...size, ...this.#origin, keepUntil, phases, error }
  }

  #endPhase(): void {
    const last = this.#phases.at(-1)
    if (last !== undefined) last.endedMs ??= performance.now()
  }
}
