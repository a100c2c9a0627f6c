import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import type { GuestImage, Images } from '../../src/images/types.ts'
import type { GuestLink } from '../../src/link/types.ts'
import { openDatabase } from '../../src/store/database.ts'
import type { LogFields, Logger } from '../../src/telemetry/types.ts'
import { killMachineProcesses } from '../../src/machines/kill.ts'
import { createMachines, type MachinesOptions } from '../../src/machines/machines.ts'
import type { TemplateSettings } from '../../src/machines/templates/templates.ts'
import { identify, isRunning, untilGone } from '../../src/machines/process-identity.ts'
import type { Engine, ProcessIdentity, SavedMachine, Vmm, VmmSpec } from '../../src/machines/types.ts'

/** What a fake VMM and its guest do; tests change it as they go. */
export interface FakeBehaviour {
  create?: 'fail'
  /** How the guest's agent answers the hello. */
  hello?: 'never' | 'refuse'
  /** Called with the VMM's process in the middle of each step; what it throws is how the step fails. */
  during?: Partial<
    Record<'restore' | 'goOn' | 'save' | 'park' | 'settle', (identity: ProcessIdentity) => Promise<void> | void>
  >
  /** Answers a command of a template's warm-up. */
  exec?: (argv: string[], stdin: string) => Promise<number> | number
}

/** An engine whose VMM is a real process, `sleep`, under the leased uid, that dials the control socket as QEMU does. */
class FakeEngine implements Engine {
  readonly name = 'qemu-tcg'
  readonly capabilities = { hardwareIsolation: false, snapshots: true, tap: false }
  readonly timeScale = 1
  readonly behaviour: FakeBehaviour
  readonly specs: VmmSpec[] = []
  /** What machines were restored from. */
  readonly restored: SavedMachine[] = []
  /** Ids of machines that were booted from their own disk. */
  readonly rebooted: string[] = []
  version = 'fake 1'

  constructor(behaviour: FakeBehaviour = {}) {
    this.behaviour = behaviour
  }

  async probe() {
    return { engine: this.name, works: true, version: '1', reason: null, fix: null } as const
  }

  async create(spec: VmmSpec, started: Parameters<Engine['create']>[1]): Promise<Vmm> {
    this.specs.push(spec)
    if (this.behaviour.create === 'fail') throw new Error('no VMM today')
    if (spec.memory === 'file') await writeFile(join(spec.diskDir, 'memory'), 'memory')
    await writeFile(join(spec.diskDir, 'scratch.qcow2'), 'scratch')
    const identity = await this.#launch(spec, started)
    await dial(spec)
    return this.#vmm(spec, identity)
  }

  async restore(spec: VmmSpec, from: SavedMachine, started: Parameters<Engine['create']>[1]): Promise<Vmm> {
    this.specs.push(spec)
    this.restored.push(from)
    const state = join(from.folder, 'state')
    await access(state)
    if (from.disk !== 'own') await copyFile(join(from.folder, 'scratch.qcow2'), join(spec.diskDir, 'scratch.qcow2'))
    const identity = await this.#launch(spec, started)
    try {
      await this.behaviour.during?.restore?.(identity)
      if (from.disk === 'own') await rm(state)
      await this.behaviour.during?.goOn?.(identity)
    } catch (error) {
      await killMachineProcesses({ id: spec.id, runDir: spec.runDir, identity, uid: spec.uid })
      throw error
    }
    await dial(spec)
    return this.#vmm(spec, identity)
  }

  async compatibility(): Promise<Record<string, string>> {
    return { vmm: this.version }
  }

  async mapsReadOnly(): Promise<boolean> {
    return true
  }

  async reboot(spec: VmmSpec, started: Parameters<Engine['create']>[1]): Promise<Vmm> {
    this.specs.push(spec)
    this.rebooted.push(spec.id)
    await access(join(spec.diskDir, 'scratch.qcow2'))
    const identity = await this.#launch(spec, started)
    await dial(spec)
    return this.#vmm(spec, identity)
  }

  async adopt(spec: VmmSpec, identity: ProcessIdentity): Promise<Vmm | undefined> {
    if (!(await isRunning(identity))) return undefined
    this.#exits.set(
      identity,
      untilGone(identity).then(() => 'QEMU ended: its process is gone'),
    )
    await dial(spec)
    return this.#vmm(spec, identity)
  }

  readonly #exits = new WeakMap<ProcessIdentity, Promise<string>>()

  async #launch({ uid }: VmmSpec, started: Parameters<Engine['create']>[1]): Promise<ProcessIdentity> {
    const owner = uid === undefined ? {} : { uid, gid: uid }
    const child = spawn('sleep', ['600'], { stdio: 'ignore', cwd: '/', ...owner })
    const exited = once(child, 'exit').then(([, signal]) => `QEMU ended: ${String(signal)}`)
    await once(child, 'spawn')
    const identity = await identify(child.pid ?? 0)
    if (identity === undefined) throw new Error('the fake VMM ended at once')
    this.#exits.set(identity, exited)
    await started(identity)
    return identity
  }

  #vmm({ id, uid, runDir, diskDir }: VmmSpec, identity: ProcessIdentity): Vmm {
    const exited = this.#exits.get(identity) ?? Promise.resolve('')
    const during = async (step: 'save' | 'settle') => {
      await this.behaviour.during?.[step]?.(identity)
    }
    return {
      identity,
      exited,
      guestUp: Promise.resolve(),
      onStall() {},
      consoleTail: async () => 'Linux version 6\nKernel panic - \u001B[31mnot syncing\n',
      dumpMemory: async () => {},
      settled: () => during('settle'),
      pause: async () => {},
      async resume() {
        if ((await identify(identity.pid)) === undefined) throw new Error('its monitor is closed')
      },
      async save() {
        await during('save')
        if ((await identify(identity.pid)) === undefined) throw new Error('QEMU ended meanwhile.')
        await writeFile(join(diskDir, 'state'), 'state')
      },
      async kill() {
        await killMachineProcesses({ id, runDir, identity, uid })
        await exited
      },
      release() {},
    }
  }
}

async function dial({ runDir }: VmmSpec): Promise<void> {
  await once(
    connect(join(runDir, 'control.sock')).on('error', () => {}),
    'connect',
  )
}

/** A link whose guest answers the hello, can be parked, and runs commands as the test says; every other call rejects. */
function fakeLink(behaviour: FakeBehaviour, accepted: Duplex[] = []): GuestLink {
  const { promise: lost, resolve } = Promise.withResolvers<string>()
  const refuse = async () => Promise.reject(new Error('not in this test'))
  return {
    hello: (_, signal) =>
      new Promise((answer, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')))
        if (behaviour.hello === 'refuse') reject(new Error('the agent speaks another protocol'))
        if (behaviour.hello === undefined) answer({ protocol: 1, agentVersion: '1', bootId: 'b', uptimeMs: 1 })
      }),
    accept: (socket) => void accepted.push(socket),
    lost,
    [Symbol.asyncDispose]: async () => resolve('closed'),
    start: refuse,
    output: () => ({ [Symbol.asyncIterator]: () => ({ next: refuse }) }),
    keptOutput: () => ({ pieces: { [Symbol.asyncIterator]: () => ({ next: refuse }) }, acks: { taken() {} } }),
    input: refuse,
    resize: refuse,
    kill: refuse,
    async exec({ argv }, { stdin }) {
      const code = (await behaviour.exec?.(argv, stdin?.toString() ?? '')) ?? 0
      const exit = { code, signal: null, outOfMemory: false }
      const stderr = Buffer.from(code === 0 ? '' : 'it went wrong')
      return { exit, stdout: Buffer.from(''), stderr, truncated: false, timedOut: false }
    },
    readFile: refuse,
    writeFile: refuse,
    tree: async () => ({ entries: [], truncated: false }),
    putArchive: refuse,
    getArchive: refuse,
    baseline: async () => {},
    changes: refuse,
    patch: refuse,
    async park(_, signal) {
      await behaviour.during?.park?.({ pid: 0, startTime: 0 })
      signal?.throwIfAborted()
    },
    wake: () => {},
    halt: () => {},
  }
}

const IMAGE: GuestImage = {
  manifest: {
    key: '0123456789abcdef',
    kernelVersion: '6',
    nodeVersion: '26',
    claudeVersion: '2',
    extraPackages: { debian: [], npm: [] },
    builtAt: '2026-01-01T00:00:00Z',
  },
  kernel: '/kernel',
  initrd: '/initrd',
  root: '/root.ext4',
}

function fakeImages(image: GuestImage): Images {
  return { ensure: async () => image, find: async () => image, emptyScratch: async () => '/scratch.raw' }
}

const quiet = () => {}
export const quietLog: Logger = { debug: quiet, info: quiet, warn: quiet, error: quiet, child: () => quietLog }

/** A logger that remembers warnings and errors, each with what it is about. */
function listeningLog() {
  const said: { message: string; facts: LogFields }[] = []
  const note = (facts: LogFields | string, message = '') => {
    said.push(typeof facts === 'string' ? { message: facts, facts: {} } : { message, facts })
  }
  const log: Logger = { ...quietLog, info: note, warn: note, error: note, child: () => log }
  return { log, said }
}

/** A machines room in temporary folders, with everything outside of it faked. */
export async function setUpMachines(
  behaviour: FakeBehaviour = {},
  more: Partial<Pick<MachinesOptions, 'suspendIdleMs' | 'atShutdown'>> & { templates?: Partial<TemplateSettings> } = {},
) {
  const folder = await mkdtemp(join(tmpdir(), 'machines-'))
  const database = await openDatabase(':memory:')
  const engine = new FakeEngine(behaviour)
  const accepted: Duplex[] = []
  const { log, said } = listeningLog()
  const image = structuredClone(IMAGE)
  const templates = more.templates && {
    folder: join(folder, 'templates'),
    maxBytes: 1024 ** 3,
    memory: 'auto' as const,
    severalUsers: async () => false,
    warm: {},
    ...more.templates,
  }
  const options: MachinesOptions = {
    database,
    images: fakeImages(image),
    chooseEngine: async () => engine,
    engines: [engine],
    runDir: join(folder, 'run'),
    diskDir: join(folder, 'disks'),
    scratchMib: 1024,
    largest: { memoryMib: 4096, vcpus: 4 },
    exclude: [],
    suspendIdleMs: more.suspendIdleMs ?? 0,
    atShutdown: more.atShutdown ?? 'stop',
    templates: templates ?? null,
    warmEgress: () => ({ accept: () => {}, [Symbol.asyncDispose]: async () => {} }),
    linkFactory: () => fakeLink(behaviour, accepted),
    log,
  }
  const machines = createMachines(options)
  return {
    machines,
    engine,
    database,
    options,
    folder,
    accepted,
    said,
    /** What machines are made from; tests change it as they go. */
    image,
    behaviour: engine.behaviour,
    async [Symbol.asyncDispose]() {
      await machines[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
      await database.destroy()
    },
  }
}

export const REQUEST = { userId: 'u_000000000000', taskId: null, memoryMib: 512, vcpus: 1, egress: () => {} }
