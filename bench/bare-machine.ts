/**
 * The floor under the machines: QEMU as the engine starts it, with the same arguments and the same image, and nothing else
 * of the orchestrator: no journal, no sandbox, no uid of its own, no monitor.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { composeHost } from '../src/compose.ts'
import { loadConfig } from '../src/config/load.ts'
import type { GuestImage } from '../src/images/types.ts'
import { chooseEngine } from '../src/machines/choose-engine.ts'
import { qemuArgs, SOCKETS, type Accelerator } from '../src/machines/qemu/args.ts'
import { createScratchDisk } from '../src/machines/qemu/disks.ts'
import { findQemu, type Qemu } from '../src/machines/qemu/host.ts'
import { InheritedFiles } from '../src/machines/qemu/launch.ts'
import { SANDBOX_RUN_DIR } from '../src/machines/qemu/sandbox.ts'
import { listenForVmm } from '../src/machines/sockets.ts'

/** As large as a task's machine by default. */
const SIZE = { memoryMib: 2048, vcpus: 2 }

/** What a bare machine is made of. */
export interface BareHost {
  qemu: Qemu
  accel: Accelerator
  image: GuestImage
  /** The empty disk under every scratch disk. */
  scratchBase: string
}

/** QEMU, image and accelerator that an orchestrator with default settings takes on this host. */
export async function findBareHost(): Promise<BareHost> {
  const { config } = loadConfig()
  const { images, engines } = composeHost(config).doctor
  const image = await images.ensure()
  const { name } = await chooseEngine(config.engine, engines)
  const qemu = await findQemu()
  if (qemu === undefined) throw new Error('QEMU is not installed: apt-get install -y qemu-system-x86')
  const scratchBase = await images.emptyScratch(config.machines.scratchMib)
  return { qemu, accel: name === 'qemu-kvm' ? 'kvm' : 'tcg', image, scratchBase }
}

export interface BareMachine extends AsyncDisposable {
  /** Resolves with a sentence when QEMU has ended. */
  ended: Promise<string>
}

/** Starts a machine with `initrd`; `control` takes the host's end of its control port. Disposing kills it. */
export async function startBareMachine(
  { qemu, accel, image, scratchBase }: BareHost,
  initrd: string,
  control: (socket: Socket) => void,
): Promise<BareMachine> {
  await using stack = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'vivarium-bare-'))
  stack.defer(() => rm(dir, { recursive: true, force: true }))
  const scratch = await createScratchDisk(dir, scratchBase)
  stack.use(await listenForVmm(join(dir, SOCKETS.control), undefined, control))
  stack.use(await listenForVmm(join(dir, SOCKETS.egress), undefined, () => {}))
  const inherited = new InheritedFiles()
  const args = qemuArgs({
    id: 'bench',
    accel,
    version: qemu.version.number,
    ...SIZE,
    boot: { kernelFd: inherited.add(image.kernel), initrdFd: inherited.add(initrd), kernelArgs: [] },
    memory: { kind: 'anonymous' },
    disks: {
      rootFd: inherited.add(image.root),
      baseFd: inherited.add(scratchBase),
      layerFd: null,
      scratchFd: inherited.add(scratch, { writable: true }),
    },
  })
  const files = await Promise.all(inherited.list.map(({ path, writable }) => open(path, writable ? 'r+' : 'r')))
  const child = spawn(
    qemu.path,
    // The guest runs at once: nobody has to write anything down first.
    args.filter((arg) => arg !== '-S').map((arg) => arg.replace(`${SANDBOX_RUN_DIR}/`, `${dir}/`)),
    { stdio: ['ignore', 'inherit', 'inherit', 'ignore', ...files.map((file) => file.fd)] },
  )
  const exited = once(child, 'exit').then(([code, signal]) => `QEMU ended: ${String(signal ?? code)}`)
  stack.defer(async () => {
    child.kill('SIGKILL')
    await exited
  })
  await once(child, 'spawn')
  await Promise.all(files.map((file: FileHandle) => file.close()))
  const resources = stack.move()
  return { ended: exited, [Symbol.asyncDispose]: () => resources.disposeAsync() }
}
