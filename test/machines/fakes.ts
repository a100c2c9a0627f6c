import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import type { GuestImage, Images } from '../../src/images/types.ts'
import type { GuestLink } from '../../src/link/types.ts'
import { openDatabase } from '../../src/store/database.ts'
import type { Logger } from '../../src/telemetry/types.ts'
import { killMachineProcesses } from '../../src/machines/kill.ts'
import { createMachines } from '../../src/machines/machines.ts'
import { identify } from '../../src/machines/process-identity.ts'
import type { Engine, SavedMachine, Vmm, VmmSpec } from '../../src/machines/types.ts'

/** What a fake VMM does when it is started. */
export interface FakeBehaviour {
  create?: 'fail'
  /** How the guest's agent answers the hello. */
  hello?: 'never' | 'refuse'
}

/** An engine whose VMM is a real process, `sleep`, under the leased uid, that dials the control socket as QEMU does. */
class FakeEngine implements Engine {
  readonly name = 'qemu-tcg'
  readonly capabilities = { hardwareIsolation: false, snapshots: false, tap: false }
  readonly timeScale = 1
  readonly behaviour: FakeBehaviour
  readonly specs: VmmSpec[] = []

  constructor(behaviour: FakeBehaviour = {}) {
    this.behaviour = behaviour
  }

  async probe() {
    return { engine: this.name, works: true, version: '1', reason: null, fix: null } as const
  }

  async create(spec: VmmSpec, started: Parameters<Engine['create']>[1]): Promise<Vmm> {
    this.specs.push(spec)
    if (this.behaviour.create === 'fail') throw new Error('no VMM today')
    const owner = spec.uid === undefined ? {} : { uid: spec.uid, gid: spec.uid }
    const child = spawn('sleep', ['600'], { stdio: 'ignore', cwd: '/', ...owner })
    const exited = once(child, 'exit').then(([, signal]) => `QEMU ended: ${String(signal)}`)
    await once(child, 'spawn')
    const identity = await identify(child.pid ?? 0)
    if (identity === undefined) throw new Error('the fake VMM ended at once')
    await started(identity)
    await once(
      connect(join(spec.runDir, 'control.sock')).on('error', () => {}),
      'connect',
    )
    return {
      identity,
      exited,
      guestUp: Promise.resolve(),
      consoleTail: async () => 'Linux version 6\nKernel panic - \u001B[31mnot syncing\n',
      dumpMemory: async () => {},
      settled: async () => {},
      pause: async () => {},
      resume: async () => {},
      save: async () => {},
      kill: () => killMachineProcesses({ id: spec.id, identity, uid: spec.uid }),
    }
  }

  restore(spec: VmmSpec, _from: SavedMachine, started: Parameters<Engine['create']>[1]): Promise<Vmm> {
    return this.create(spec, started)
  }

  async compatibility(): Promise<Record<string, string>> {
    return { vmm: 'fake 1' }
  }

  async mapsReadOnly(): Promise<boolean> {
    return true
  }

  async adopt(): Promise<undefined> {
    return undefined
  }
}

/** A link whose guest answers the hello; every other call rejects. */
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
    input: refuse,
    resize: refuse,
    kill: refuse,
    exec: refuse,
    readFile: refuse,
    writeFile: refuse,
    tree: refuse,
    putArchive: refuse,
    getArchive: refuse,
    baseline: refuse,
    changes: refuse,
    patch: refuse,
    park: refuse,
    wake: () => {},
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

const fakeImages: Images = {
  ensure: async () => IMAGE,
  find: async () => IMAGE,
  emptyScratch: async () => '/scratch.raw',
}

const quiet = () => {}
export const quietLog: Logger = { debug: quiet, info: quiet, warn: quiet, error: quiet, child: () => quietLog }

/** A machines room in temporary folders, with everything outside of it faked. */
export async function setUpMachines(behaviour: FakeBehaviour = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'machines-'))
  const database = await openDatabase(':memory:')
  const engine = new FakeEngine(behaviour)
  const accepted: Duplex[] = []
  const options = {
    database,
    images: fakeImages,
    chooseEngine: async () => engine,
    runDir: join(folder, 'run'),
    diskDir: join(folder, 'disks'),
    scratchMib: 1024,
    limits: { memoryMib: 4096, vcpus: 4 },
    suspendIdleMs: 0,
    templates: null,
    warmEgress: () => ({ accept: () => {}, [Symbol.asyncDispose]: async () => {} }),
    linkFactory: () => fakeLink(behaviour, accepted),
    log: quietLog,
  }
  const machines = createMachines(options)
  return {
    machines,
    engine,
    database,
    options,
    folder,
    accepted,
    async [Symbol.asyncDispose]() {
      await machines[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
      await database.destroy()
    },
  }
}

export const REQUEST = { userId: 'u_000000000000', taskId: null, memoryMib: 512, vcpus: 1, egress: () => {} }
