import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'

const BOOT = fileURLToPath(new URL('boot.sh', import.meta.url))
const STATE = '/var/lib/vivarium'
const NAMESPACES = ['--mount', '--pid', '--uts', '--ipc', '--cgroup']

/** What a systemd needs besides the units that it is to run. */
const TARGETS = ['basic', 'sysinit', 'sockets', 'network', 'multi-user', 'shutdown', 'umount', 'final', 'exit']

/** A systemd that runs nothing but what it is told to. */
export interface SystemdHost extends AsyncDisposable {
  /** Runs a program beside it; resolves with what it prints. Rejects when that fails. */
  run(...argv: string[]): Promise<string>
  /** A property of a unit. */
  show(unit: string, property: string): Promise<string>
}

/** Starts a systemd in namespaces of its own, on the files of this host. `units` and `state` are folders; see `boot.sh`. */
export async function startSystemd({ units, state }: { units: string; state: string }): Promise<SystemdHost> {
  await using stack = new AsyncDisposableStack()
  if (!existsSync(STATE)) {
    mkdirSync(STATE)
    stack.defer(() => rmdirSync(STATE))
  }
  for (const name of TARGETS)
    writeFileSync(join(units, `${name}.target`), `[Unit]\nDescription=${name}\nDefaultDependencies=no\n`)
  writeFileSync(join(units, 'default.target'), '[Unit]\nDescription=all\nRequires=basic.target\nAfter=basic.target\n')
  const groups = cgroupRoots().map((root) => join(root, `vivarium-test-${process.pid}`))
  for (const group of groups) {
    mkdirSync(group)
    stack.defer(() => removeGroups(group))
  }
  // It joins its control groups before it has namespaces, whose roots they become.
  const joinGroups = groups.map((group) => `echo $$ > ${group}/cgroup.procs`).join(' && ')
  const start = `${joinGroups} && exec unshare --fork --kill-child ${NAMESPACES.join(' ')} bash "$@"`
  const unshare = spawn('bash', ['-c', start, 'bash', BOOT, units, state], { stdio: ['ignore', 'ignore', 'inherit'] })
  const gone = once(unshare, 'exit')
  stack.defer(async () => {
    unshare.kill('SIGKILL') // with it its child, the first process of a namespace, and so all others in that
    await gone
    await until(() => groups.every((group) => !isPopulated(group)), 'The processes of systemd do not end.')
  })
  const pid = await firstChild(unshare.pid ?? 0)
  const run = async (...argv: string[]) => {
    const { stdout } = await execa('nsenter', ['-t', String(pid), ...NAMESPACES, '--', ...argv], { stdin: 'ignore' })
    return stdout
  }
  const isUp = () => run('systemctl', 'is-active', 'basic.target').then((state) => state === 'active')
  await until(() => isUp().catch(() => false), 'systemd did not come up.')
  const ownership = stack.move()
  return {
    run,
    show: (name, property) => run('systemctl', 'show', '--value', '-p', property, name),
    [Symbol.asyncDispose]: () => ownership.disposeAsync(),
  }
}

/** Where control groups of version 2, and those that systemd names its own by where version 1 is in use, are mounted. */
function cgroupRoots(): string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  return mounts
    .filter((line) => / - cgroup2 /.test(line) || / - cgroup .*\bname=systemd\b/.test(line))
    .flatMap((line) => line.split(' ')[4] ?? [])
}

async function firstChild(pid: number): Promise<number> {
  const children = () => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').map(Number)
  await until(() => (children()[0] ?? 0) > 0, 'unshare started nothing.')
  return children()[0] ?? 0
}

async function until(isSo: () => boolean | Promise<boolean>, orElse: string): Promise<void> {
  for (const deadline = Date.now() + 60_000; !(await isSo()); await sleep(50))
    if (Date.now() > deadline) throw new Error(orElse)
}

/** Whether a process is in a group, or in one below it. */
function isPopulated(group: string): boolean {
  if (readFileSync(join(group, 'cgroup.procs'), 'utf8') !== '') return true
  return readdirSync(group, { withFileTypes: true }).some(
    (entry) => entry.isDirectory() && isPopulated(join(group, entry.name)),
  )
}

function removeGroups(group: string): void {
  for (const entry of readdirSync(group, { withFileTypes: true }))
    if (entry.isDirectory()) removeGroups(join(group, entry.name))
  rmdirSync(group)
}
