import { VivariumError } from '../../contracts/errors.ts'
import type { MachineInfo, MachineState } from '../../contracts/machine.ts'
import { NOBODY } from '../../machines/types.ts'
import type {
  Machine,
  MachineLease,
  MachineOptions,
  Machines,
  MachineUse,
  ReadyMachine,
  ReadyPool,
  ReadyWish,
  Templates,
  WaitingAgent,
} from '../../machines/types.ts'
import { FakeGuest } from './fake-guest.ts'

export const OWNER = 'u_0000000000aa'

interface Entry {
  info: MachineInfo
  guest: FakeGuest
  use: MachineUse
}

/** Machines whose guests are played by the test. */
export class FakeMachines implements Machines {
  readonly created: MachineOptions[] = []
  /** Machines that run or are suspended. */
  readonly alive = new Map<string, Entry>()
  /** What was asked for, e.g. `suspend vm_…`. */
  readonly calls: string[] = []
  /** Machines that no task uses, as `list` shows them. */
  others: MachineInfo[] = []
  /** Prepares the guest of each machine. */
  guest: (options: MachineOptions) => FakeGuest = () => new FakeGuest()
  /** Takes the time of a boot. */
  boot: (options: MachineOptions) => Promise<void> = async () => {}
  /** Makes `assign` fail. */
  assignFailure: VivariumError | undefined
  canSuspend = true
  /** What is found on the disk of a machine that was lost; undefined where nothing is. */
  onDisk: FakeGuest | undefined
  /** Why the VMM of a machine is gone. */
  readonly crashed = new Map<string, string>()
  readonly #listeners = new Set<(info: MachineInfo) => void>()

  async create(options: MachineOptions): Promise<Machine> {
    const id = options.id ?? 'vm_000000000000'
    const original = options.forkOf === undefined ? undefined : this.#entry(options.forkOf)
    if (original !== undefined && original.info.state !== 'suspended')
      throw new VivariumError('conflict', 'The original runs.')
    const guest = this.guest(options)
    this.created.push(options)
    const phases = [{ name: 'boot', ms: 5 }]
    const info = { ...machineInfo(id, options.taskId, options.memoryMib), phases }
    options.onChange?.({ ...info, state: 'booting' })
    await this.boot(options)
    options.signal?.throwIfAborted()
    this.alive.set(id, { info, guest, use: options })
    options.onChange?.(info)
    return this.#machine(id)
  }

  /** A machine that is there before any task. */
  add(id: string, guest: FakeGuest): void {
    this.alive.set(id, { info: this.nobody(id), guest, use: { userId: NOBODY, taskId: null, egress: null } })
  }

  /** A machine of nobody's, as `list` shows it. */
  nobody(id: string): MachineInfo {
    return { ...machineInfo(id, null, 1024), userId: NOBODY }
  }

  get = (id: string) => (this.alive.has(id) ? this.#machine(id) : undefined)
  list = () => [...this.others, ...[...this.alive.values()].map(({ info }) => info)]
  reconcile = async () => []
  leaks = async () => []

  find = (id: string) => this.get(id)
  networkOf = () => undefined

  async rejoin(id: string, use: Pick<MachineUse, 'egress' | 'onChange'>): Promise<void> {
    this.calls.push(`rejoin ${id}`)
    const entry = this.#entry(id)
    entry.use = { ...entry.use, ...use }
  }

  async salvage(id: string): Promise<Machine> {
    this.calls.push(`salvage ${id}`)
    const { info, use } = this.#entry(id)
    if (this.onDisk === undefined) throw new VivariumError('not_found', `Nothing is left of the machine ${id}.`)
    this.crashed.set(id, 'its process is gone')
    this.alive.set(id, { info: { ...info, state: 'suspended' }, guest: this.onDisk, use: { ...use, egress: null } })
    return this.#machine(id)
  }

  async leave(id: string): Promise<void> {
    this.calls.push(`leave ${id}`)
  }

  async evict(id: string): Promise<void> {
    this.calls.push(`evict ${id}`)
    this.#gone(id)
  }

  async assign(id: string, use: MachineUse): Promise<Machine> {
    this.calls.push(`assign ${id}`)
    if (this.assignFailure !== undefined) throw this.assignFailure
    const entry = this.#entry(id)
    entry.use = use
    this.become(id, 'ready', { userId: use.userId, taskId: use.taskId, keepUntil: null })
    return this.#machine(id)
  }

  async keep(id: string, until: Date): Promise<void> {
    this.calls.push(`keep ${id}`)
    this.become(id, 'ready', { keepUntil: until.toISOString() })
  }

  async suspend(id: string): Promise<void> {
    this.calls.push(`suspend ${id}`)
    if (!this.canSuspend) throw new VivariumError('conflict', 'This engine can not suspend.')
    this.become(id, 'suspending')
    await new Promise((resolve) => setImmediate(resolve))
    this.become(id, 'suspended')
  }

  async resume(id: string): Promise<void> {
    this.calls.push(`resume ${id}`)
    this.become(id, 'ready')
  }

  async lease(id: string): Promise<MachineLease> {
    this.calls.push(`lease ${id}`)
    this.become(id, 'ready')
    return { machine: this.#machine(id), [Symbol.dispose]: () => {} }
  }

  watch(listener: (info: MachineInfo) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Changes a machine and tells everyone who watches. */
  become(id: string, state: MachineState, more: Partial<MachineInfo> = {}): void {
    const entry = this.#entry(id)
    entry.info = { ...entry.info, ...more, state }
    entry.use.onChange?.(entry.info)
    this.#tell(entry.info)
  }

  /** Tells everyone who watches that something changed. */
  changed(): void {
    this.#tell(machineInfo('vm_000000000000', null, 0))
  }

  get templates(): Templates {
    throw new Error('not played')
  }

  async engine(): Promise<never> {
    return { capabilities: { hardwareIsolation: false, snapshots: this.canSuspend, tap: false } } as never
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #tell(info: MachineInfo): void {
    for (const listener of this.#listeners) listener(info)
  }

  #gone(id: string): void {
    const entry = this.alive.get(id)
    this.alive.delete(id)
    if (entry !== undefined) this.#tell({ ...entry.info, state: 'gone' })
  }

  #entry(id: string): Entry {
    const entry = this.alive.get(id)
    if (entry === undefined) throw new VivariumError('not_found', `There is no machine ${id}.`)
    return entry
  }

  #machine(id: string): Machine {
    const entry = this.#entry(id)
    const { guest } = entry
    return {
      id,
      link: guest.link(),
      timeScale: 1,
      info: () => entry.info,
      lost: guest.gone.promise,
      hasBaseline: false,
      crashed: this.crashed.get(id),
      dumpMemory: async () => {},
      destroy: async () => this.#gone(id),
    }
  }
}

/** Ready machines that the test has put there. */
export class FakePool implements ReadyPool {
  readonly ready: ReadyMachine[] = []
  readonly wishes: ReadyWish[] = []

  take(wish: ReadyWish): ReadyMachine | undefined {
    this.wishes.push(wish)
    const at = this.ready.findIndex(({ waiting }) => (waiting === undefined) === (wish.agent === undefined))
    return at === -1 ? undefined : this.ready.splice(at, 1)[0]
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  counts() {
    return { machines: 0, agents: 0 }
  }
}

export function waitingAgent(fields: Partial<WaitingAgent> = {}): WaitingAgent {
  return {
    execId: 'x_000000000001',
    sessionId: '7b0d9f4e-3c51-4c5a-9d0e-2f7f1f0c6a11',
    model: null,
    credentialKind: 'api-key',
    ended: new Promise(() => {}),
    release() {},
    ...fields,
  }
}

export function machineInfo(id: string, taskId: string | null, memoryMib: number): MachineInfo {
  return {
    id,
    userId: OWNER,
    taskId,
    state: 'ready',
    engine: 'qemu-tcg',
    memoryMib,
    vcpus: 2,
    createdAt: new Date(0).toISOString(),
    startedFrom: 'boot',
    template: null,
    keepUntil: null,
    phases: [],
    error: null,
  }
}
