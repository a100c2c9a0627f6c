import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { machineGroup } from '../src/machines/cgroup.ts'
import { killMachineProcesses } from '../src/machines/kill.ts'
import { identify, isRunning, untilGone } from '../src/machines/process-identity.ts'
import type { Engine, ProcessIdentity, Vmm, VmmSpec } from '../src/machines/types.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** Guests share two processors with each other and with an orchestrator that is started again and again. */
const TIME_SCALE = 4

/**
 * Machines without a VM: the real guest agent in a container of its own (processes, network, files), under the machine's leased
 * uid, in its cgroup, on its sockets. It outlives the orchestrator as a VM does, so that everything above the engine, adoption
 * included, is the real thing, at the price of a process. It can't be saved.
 */
export function processEngine(): Engine {
  return {
    name: 'qemu-tcg',
    capabilities: { hardwareIsolation: false, snapshots: false, tap: false },
    timeScale: TIME_SCALE,
    probe: async () => ({ engine: 'qemu-tcg', works: true, version: 'none', reason: null, fix: null }),
    create,
    restore: () => Promise.reject(new Error('a process can not be restored')),
    reboot: () => Promise.reject(new Error('a process has no disk to be started from')),
    compatibility: async () => ({ vmm: 'processes' }),
    mapsReadOnly: async () => false,
    adopt: async (spec, identity) => ((await isRunning(identity)) ? vmmOf(spec, identity) : undefined),
  }
}

async function create(spec: VmmSpec, started: (identity: ProcessIdentity) => Promise<void>): Promise<Vmm> {
  await makeFiles(spec)
  await using log = await open(logOf(spec), 'a', 0o600)
  const child = spawn('bwrap', containerArgs(spec), {
    ...(spec.uid === undefined ? {} : { uid: spec.uid, gid: spec.uid }),
    env: { PATH: process.env['PATH'] },
    cwd: '/',
    detached: true,
    stdio: ['ignore', log.fd, log.fd, 'pipe', 'pipe'],
  })
  await once(child, 'spawn')
  child.unref()
  const [, , , info, gate] = child.stdio
  const json = await text(info as Readable)
  if (json === '') throw new Error(`The container did not start: ${await readFile(logOf(spec), 'utf8')}`)
  const { 'child-pid': pid } = JSON.parse(json) as { 'child-pid': number }
  const identity = await identify(pid)
  if (identity === undefined) throw new Error('The guest ended at once.')
  await (await machineGroup(spec.id)).add(pid)
  await started(identity)
  const opening = gate as Writable
  opening.on('error', () => {}) // it has read all it wanted, and closes its end
  opening.end('go')
  return vmmOf(spec, identity)
}

/** The guest's own files lie in its run folder, which the machine's uid can reach. */
async function makeFiles({ runDir, uid }: VmmSpec): Promise<void> {
  for (const path of ['', 'workspace', 'home', 'state'].map((name) => join(runDir, 'guest', name))) {
    await mkdir(path)
    if (uid !== undefined) await chown(path, uid, uid)
  }
}

function containerArgs({ id, runDir }: VmmSpec): string[] {
  const files = join(runDir, 'guest')
  return [
    ['--unshare-all', '--as-pid-1', '--new-session', '--clearenv', '--hostname', 'guest'],
    ['--setenv', 'PATH', '/usr/bin:/bin', '--info-fd', '3', '--block-fd', '4'],
    ['--ro-bind', '/usr', '/usr', '--ro-bind', '/etc', '/etc', '--proc', '/proc', '--dev', '/dev', '--tmpfs', '/tmp'],
    ...['bin', 'sbin', 'lib', 'lib64'].map((name) => ['--symlink', `usr/${name}`, `/${name}`]),
    ['--ro-bind', process.execPath, '/opt/node', '--ro-bind', join(ROOT, 'package.json'), '/opt/package.json'],
    ...['guest', 'src/link'].map((name) => ['--ro-bind', join(ROOT, name), `/opt/${name}`]),
    ['--bind', join(files, 'workspace'), '/workspace', '--bind', join(files, 'home'), '/home/agent'],
    ['--bind', join(files, 'state'), '/var/lib/vivarium', '--bind', runDir, '/vm', '--chdir', '/'],
    // Its name is what a VMM's is: by it it is found where uids can't be leased.
    ['--', 'bash', '-c', 'exec -a "$0" /opt/node "$@"', `vivarium-${id}`],
    ['/opt/guest/main.ts', '--connect', '/vm', '--state', '/var/lib/vivarium', '--no-setuid'],
  ].flat()
}

function vmmOf(spec: VmmSpec, identity: ProcessIdentity): Vmm {
  const exited = untilGone(identity).then(() => 'the guest ended')
  const unable = () => Promise.reject(new Error('a process can not be saved'))
  return {
    identity,
    exited,
    guestUp: Promise.resolve(),
    onStall() {},
    consoleTail: () => readFile(logOf(spec), 'utf8').catch(() => ''),
    dumpMemory: unable,
    settled: unable,
    pause: unable,
    // It was never paused.
    resume: async () => {},
    save: unable,
    async kill() {
      await killMachineProcesses({ id: spec.id, runDir: spec.runDir, identity, uid: spec.uid })
      await exited
    },
    release() {},
  }
}

function logOf({ diskDir }: VmmSpec): string {
  return join(diskDir, 'guest.log')
}
