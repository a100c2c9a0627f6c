import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setImmediate } from 'node:timers/promises'
import { VivariumError } from '../../contracts/errors.ts'
import { newId } from '../../contracts/ids.ts'
import type { ExecRequest, ExecResponse, MachineInfo, MachineRequest } from '../../contracts/machine.ts'
import type { ExecOutput } from '../../link/types.ts'
import type { ShellRequest } from '../../contracts/shell.ts'
import type { MachineAccess } from '../../machines/types.ts'
import { FakeShell } from './fake-shell.ts'

/** Machines whose every command prints what it was asked to run. */
export class FakeMachines implements MachineAccess {
  async recover(): Promise<void> {}

  readonly files = new Map<string, Buffer>()
  /** Commands left before their end. */
  killed = 0
  /** Shells that were opened and not asked for by `nextShell` yet. */
  readonly shells: FakeShell[] = []
  /** Rejects what is asked next. */
  refuseShell: VivariumError | undefined
  readonly #machines = new Map<string, MachineInfo>()

  list(userId: string): MachineInfo[] {
    return [...this.#machines.values()].filter((machine) => machine.userId === userId)
  }

  get(userId: string, id: string): MachineInfo {
    const machine = this.#machines.get(id)
    if (machine?.userId !== userId) throw new VivariumError('not_found', `There is no machine ${id}.`)
    return machine
  }

  async create(userId: string, request: MachineRequest): Promise<MachineInfo> {
    const machine: MachineInfo = {
      id: newId('vm'),
      userId,
      taskId: null,
      state: 'ready',
      engine: 'qemu-tcg',
      memoryMib: request.memoryMib,
      vcpus: request.vcpus,
      createdAt: new Date().toISOString(),
      startedFrom: request.template === undefined ? 'boot' : 'template',
      template: request.template ?? null,
      keepUntil: null,
      phases: [],
      error: null,
    }
    this.#machines.set(machine.id, machine)
    return machine
  }

  async destroy(userId: string, id: string): Promise<void> {
    this.get(userId, id)
    this.#machines.delete(id)
  }

  async suspend(userId: string, id: string): Promise<MachineInfo> {
    this.get(userId, id)
    return this.change(id, { state: 'suspended' })
  }

  async resume(userId: string, id: string): Promise<MachineInfo> {
    this.get(userId, id)
    return this.change(id, { state: 'ready' })
  }

  async exec(userId: string, id: string, request: ExecRequest): Promise<ExecResponse> {
    this.get(userId, id)
    const stdout = request.command ?? request.argv?.join(' ') ?? ''
    return { exitCode: 0, stdout, stderr: '', truncated: false, timedOut: false }
  }

  async *execStream(
    userId: string,
    id: string,
    request: ExecRequest,
    signal?: AbortSignal,
  ): AsyncGenerator<ExecOutput> {
    this.get(userId, id)
    const command = request.command ?? ''
    let ended = false
    try {
      yield { kind: 'stdout', data: Buffer.from(command), next: 1 }
      if (command === 'hang') {
        await new Promise((resolve) => signal?.addEventListener('abort', resolve))
        return
      }
      if (command === 'vanish') throw new VivariumError('guest_lost', 'The machine went away.')
      ended = true
      yield { kind: 'exit', exit: { code: null, signal: 'SIGTERM', outOfMemory: false }, next: 2 }
    } finally {
      if (!ended) this.killed += 1
    }
  }

  async shell(userId: string, id: string, request: ShellRequest): Promise<FakeShell> {
    this.get(userId, id)
    if (this.refuseShell !== undefined) throw this.refuseShell
    const shell = new FakeShell(request)
    this.shells.push(shell)
    return shell
  }

  async readFile(userId: string, id: string, path: string): Promise<{ size: number; body: Readable }> {
    this.get(userId, id)
    const content = this.files.get(path)
    if (content === undefined) throw new VivariumError('not_found', `There is no file ${path}.`)
    return { size: content.length, body: Readable.from([content]) }
  }

  async writeFile(userId: string, id: string, path: string, body: Readable): Promise<void> {
    this.get(userId, id)
    this.files.set(path, await buffer(body))
  }

  /** The next shell that is opened. */
  async nextShell(): Promise<FakeShell> {
    for (;;) {
      const shell = this.shells.shift()
      if (shell !== undefined) return shell
      await setImmediate()
    }
  }

  /** Makes a machine something else, as time or a task would. */
  change(id: string, change: Partial<MachineInfo>): MachineInfo {
    const machine = this.#machines.get(id)
    if (machine === undefined) throw new Error(`no machine ${id}`)
    const changed = { ...machine, ...change }
    this.#machines.set(id, changed)
    return changed
  }
}
