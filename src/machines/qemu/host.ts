import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { execa } from 'execa'
import type { EngineProbe } from '../types.ts'
import type { Accelerator } from './args.ts'
import { KVM } from './kvm-access.ts'

/** Debian's package for each program that the engine runs. */
const PACKAGES = {
  'qemu-system-x86_64': 'qemu-system-x86',
  bwrap: 'bubblewrap',
  prlimit: 'util-linux',
} as const

const QEMU = 'qemu-system-x86_64'

/** The path of a program on PATH, or undefined. */
async function findProgram(name: string): Promise<string | undefined> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, name)
    if (folder !== '' && (await isUsable(path, constants.X_OK))) return path
  }
  return undefined
}

/** Major, minor and the whole version out of `qemu-system-x86_64 --version`. */
export function parseQemuVersion(output: string): { text: string; number: [number, number] } | undefined {
  const match = /version (\d+)\.(\d+)[\w.]*/.exec(output)
  return match === null
    ? undefined
    : { text: match[0].slice('version '.length), number: [Number(match[1]), Number(match[2])] }
}

/** The QEMU on this host. */
export interface Qemu {
  path: string
  version: { text: string; number: [number, number] }
}

/** Answers to `findQemu`, by what would change with the program: asking takes longer than anything else in a start from a saved machine. */
const known = new Map<string, Qemu>()

/** Finds QEMU and asks for its version; undefined where there is none that runs. */
export async function findQemu(): Promise<Qemu | undefined> {
  const path = await findProgram(QEMU)
  if (path === undefined) return undefined
  const { ino, size, mtimeMs } = await stat(path)
  const key = [path, ino, size, mtimeMs].join(' ')
  const answer = known.get(key)
  if (answer !== undefined) return answer
  const { stdout } = await execa(path, ['--version'], { reject: false })
  const version = parseQemuVersion(String(stdout))
  if (version === undefined) return undefined
  known.set(key, { path, version })
  return { path, version }
}

/** What keeps the engine from even trying, with the command that mends it; undefined when nothing does. */
export async function missingOnHost(accel: Accelerator): Promise<Pick<EngineProbe, 'reason' | 'fix'> | undefined> {
  if (process.arch !== 'x64')
    return { reason: `This host's processor is ${process.arch}; only x86-64 is supported.`, fix: null }
  const names = Object.keys(PACKAGES) as (keyof typeof PACKAGES)[]
  const found = await Promise.all(names.map(findProgram))
  const missing = names.filter((_, index) => found[index] === undefined)
  if (missing.length > 0)
    return {
      reason: `Not installed: ${missing.join(', ')}.`,
      fix: `apt-get install -y ${missing.map((name) => PACKAGES[name]).join(' ')}`,
    }
  return accel === 'kvm' ? missingForKvm() : undefined
}

async function missingForKvm(): Promise<Pick<EngineProbe, 'reason' | 'fix'> | undefined> {
  if (!(await isUsable(KVM, constants.F_OK)))
    return {
      reason: `${KVM} does not exist: this host has no hardware virtualisation, or it is switched off in its firmware.`,
      fix: null,
    }
  if (!(await isUsable(KVM, constants.R_OK | constants.W_OK)))
    return {
      reason: `${KVM} is there, but this user may not open it.`,
      fix: 'sudo usermod -aG kvm "$USER" (then log in again)',
    }
  return undefined
}

async function isUsable(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  )
}
