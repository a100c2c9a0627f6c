/**
 * The floor under starts from a template: QEMU as the engine starts it from the same saved machine, told by QMP to load it and
 * to go on, and nothing else of the orchestrator: no journal, no sandbox, no uid of its own. Its disk is made beforehand.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadConfig } from '../src/config/load.ts'
import { createGuestLink } from '../src/link/link.ts'
import type { GuestLink } from '../src/link/types.ts'
import { qemuArgs, SOCKETS } from '../src/machines/qemu/args.ts'
import { takeScratchDisk } from '../src/machines/qemu/disks.ts'
import { InheritedFiles } from '../src/machines/qemu/launch.ts'
import { migrate } from '../src/machines/qemu/migration.ts'
import { Qmp } from '../src/machines/qemu/qmp.ts'
import { SANDBOX_RUN_DIR } from '../src/machines/qemu/sandbox.ts'
import { listenForVmm } from '../src/machines/sockets.ts'
import { TemplateStore } from '../src/machines/templates/store.ts'
import type { BareHost } from './bare-machine.ts'

/** Far above what a restore takes under software emulation. */
const TIME_SCALE = 8
const DEADLINE_MS = 60_000

/** Folder of the newest plain template of a size. Throws where there is none: build it first. */
export async function findTemplate(size: { memoryMib: number; vcpus: number }): Promise<string> {
  const store = new TemplateStore(join(loadConfig().config.cacheDir, 'templates'))
  const fitting = (await store.list()).filter(
    ({ manifest }) =>
      manifest.name === 'default' && manifest.memoryMib === size.memoryMib && manifest.vcpus === size.vcpus,
  )
  const newest = fitting.toSorted((a, b) => b.manifest.builtAt.localeCompare(a.manifest.builtAt))[0]
  if (newest === undefined) throw new Error('There is no template of that size: vivarium template build')
  return newest.folder
}

/** What a restore needs that is made before the clock starts. */
export interface BareRestore extends AsyncDisposable {
  link: GuestLink
  /** Starts QEMU, loads the template, lets the guest go on. */
  start(): Promise<void>
  /** QEMU's pid, once it was started. */
  pid(): number
}

/** Prepares a restore; `egress` takes the host's end of the guest's way out. Disposing kills it. */
export async function prepareRestore(
  { qemu, accel, image, scratchBase }: BareHost,
  template: string,
  size: { memoryMib: number; vcpus: number },
  egress: (socket: Socket) => void = () => {},
): Promise<BareRestore> {
  await using stack = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'vivarium-bare-'))
  stack.defer(() => rm(dir, { recursive: true, force: true }))
  const disks = await takeScratchDisk(dir, scratchBase, { folder: template, disk: 'over' })
  const link = stack.use(createGuestLink({ name: 'bench', timeScale: TIME_SCALE }))
  stack.use(await listenForVmm(join(dir, SOCKETS.control), undefined, (socket) => link.accept(socket)))
  stack.use(await listenForVmm(join(dir, SOCKETS.egress), undefined, egress))
  const inherited = new InheritedFiles()
  const args = qemuArgs({
    id: 'bench',
    accel,
    version: qemu.version.number,
    ...size,
    boot: null,
    memory: { kind: 'private', fd: inherited.add(join(template, 'memory')), openReadOnly: false },
    disks: {
      rootFd: inherited.add(image.root),
      baseFd: inherited.add(disks.base),
      layerFd: disks.layer === undefined ? null : inherited.add(disks.layer),
      scratchFd: inherited.add(disks.scratch, { writable: true }),
    },
  })
  const stateFd = inherited.add(join(template, 'state'))
  const resources = stack.move()
  let pid = 0
  return {
    link,
    async start() {
      const files = await Promise.all(inherited.list.map(({ path, writable }) => open(path, writable ? 'r+' : 'r')))
      const child = spawn(
        qemu.path,
        args.map((arg) => arg.replace(`${SANDBOX_RUN_DIR}/`, `${dir}/`)),
        { stdio: ['ignore', 'inherit', 'inherit', 'ignore', ...files.map((file) => file.fd)] },
      )
      const exited = once(child, 'exit')
      resources.defer(async () => {
        child.kill('SIGKILL')
        await exited
      })
      await once(child, 'spawn')
      pid = child.pid ?? 0
      await Promise.all(files.map((file) => file.close()))
      const signal = AbortSignal.timeout(DEADLINE_MS)
      const qmp = await Qmp.connect(join(dir, SOCKETS.monitor), signal)
      await migrate(qmp, 'in', { uri: `fd:${stateFd}`, mapped: true }, signal)
      await qmp.execute('cont')
    },
    pid: () => pid,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

/** The guest's first answer. */
export async function firstAnswer({ link }: BareRestore): Promise<void> {
  await link.hello({ hostname: 'bench' }, AbortSignal.timeout(DEADLINE_MS))
}
