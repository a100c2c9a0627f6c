import { spawn, type StdioOptions } from 'node:child_process'
import { once } from 'node:events'
import { constants, open, type FileHandle } from 'node:fs/promises'
import { constants as os } from 'node:os'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { z } from 'zod'
import { VivariumError } from '../../contracts/errors.ts'
import { machineGroup } from '../cgroup.ts'
import { leakedFds } from '../leaked-fds.ts'
import { identify } from '../process-identity.ts'
import type { ProcessIdentity } from '../types.ts'
import { sandboxArgs, type SandboxDevices } from './sandbox.ts'

const INFO_FD = 3
const FIRST_FILE_FD = 4
const LOG_TAIL_BYTES = 2048

/** A file that the program inherits as an open descriptor. */
interface InheritedFile {
  path: string
  writable: boolean
}

/** The files that a program inherits, collected while its arguments are written. */
export class InheritedFiles {
  readonly list: InheritedFile[] = []

  /** The descriptor by which the program will know this file. */
  add(path: string, options: { writable: boolean } = { writable: false }): number {
    return FIRST_FILE_FD + this.list.push({ path, ...options }) - 1
  }
}

export interface LaunchOptions {
  program: string
  args: string[]
  files: readonly InheritedFile[]
  runDir: string
  /** Takes what the program says on stdout and stderr; outside of what the program can see. */
  logPath: string
  devices: SandboxDevices
  uid: number | undefined
  gid: number | undefined
  dieWithParent: boolean
  /**
   * No file that the program writes grows beyond this; what it writes more fails. A guest can make QEMU print a warning as
   * often as it likes, and so fill the host's disk with its log.
   */
  maxFileBytes: number
}

export interface Launched {
  /** The program itself, not the sandbox's helper that waits for it. */
  identity: ProcessIdentity
  /** Resolves with a phrase when the program has ended, e.g. `killed by SIGKILL`. */
  ended: Promise<string>
}

const Info = z.object({ 'child-pid': z.int().positive() })

/** Starts a program in its sandbox, detached and without a pipe to this process. Rejects with `engine_failed`, saying what it said. */
export async function launch(options: LaunchOptions): Promise<Launched> {
  const sandbox = await sandboxArgs({ ...options, infoFd: INFO_FD })
  await using opened = await openFiles(options.files, options.logPath)
  const { log, handles } = opened
  const stdio: StdioOptions = ['ignore', log.fd, log.fd, 'pipe', ...handles.map((handle) => handle.fd)]
  for (const fd of await leakedFds()) {
    while (stdio.length < fd) stdio.push('ignore')
    stdio[fd] ??= log.fd
  }
  // No core files either: they would be as large as the guest's memory.
  const limits = [`--fsize=${options.maxFileBytes}`, '--core=0']
  const child = spawn('prlimit', [...limits, 'bwrap', ...sandbox, options.program, ...options.args], {
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
    env: { PATH: process.env['PATH'] },
    cwd: '/',
    detached: true,
    stdio,
  })
  const ended = once(child, 'exit').then(([code, signal]) => describeExit(code, signal))
  ended.catch(() => {}) // a failure to spawn is reported below
  try {
    await once(child, 'spawn')
  } catch (cause) {
    throw new VivariumError('engine_failed', `prlimit can't be started: ${(cause as Error).message}`, { cause })
  }
  child.unref()
  const identity = await readIdentity(child.stdio[INFO_FD])
  if (identity === undefined) {
    const how = await ended
    throw new VivariumError(
      'engine_failed',
      `${options.program} ended at once: ${how}${await readLog(options.logPath)}`,
    )
  }
  const group = await machineGroup(options.runDir)
  await group.add(identity.pid)
  return { identity, ended: ended.then(async (how) => `${how}${await readLog(options.logPath)}`) }
}

async function openFiles(files: readonly InheritedFile[], logPath: string) {
  await using opened = new AsyncDisposableStack()
  const log = opened.use(await open(logPath, 'a', 0o600))
  const handles: FileHandle[] = []
  for (const { path, writable } of files) {
    const handle = open(path, writable ? constants.O_RDWR : constants.O_RDONLY).catch((cause: Error) => {
      throw new VivariumError('engine_failed', `A file of the machine can't be opened: ${cause.message}`, { cause })
    })
    handles.push(opened.use(await handle))
  }
  const all = opened.move()
  return { log, handles, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

/** bubblewrap writes the program's pid as JSON and closes the pipe; it writes nothing when it could not set up the sandbox. */
async function readIdentity(info: unknown): Promise<ProcessIdentity | undefined> {
  if (!(info instanceof Readable)) return undefined
  const json = await text(info)
  return json === '' ? undefined : identify(Info.parse(JSON.parse(json))['child-pid'])
}

/** bubblewrap ends as its program did: with its code, or 128 + the number of the signal that ended it. */
export function describeExit(code: number | null, signal: string | null): string {
  const number = (code ?? 0) - 128
  const name = signal ?? Object.entries(os.signals).find(([, value]) => value === number)?.[0]
  if (name === undefined) return `exit code ${code}`
  return name === 'SIGKILL'
    ? 'killed by SIGKILL (by somebody, or because this host ran out of memory)'
    : `killed by ${name}`
}

/** The last lines of what the program said, as the end of a sentence, or nothing. */
async function readLog(path: string): Promise<string> {
  const file = await open(path, 'r').catch(() => undefined) // the machine's folder may be gone with the machine
  if (file === undefined) return ''
  await using log = file
  const { size } = await log.stat()
  const { bytesRead, buffer } = await log.read(
    Buffer.alloc(LOG_TAIL_BYTES),
    0,
    LOG_TAIL_BYTES,
    Math.max(0, size - LOG_TAIL_BYTES),
  )
  const said = buffer.toString('utf8', 0, bytesRead).trim().split('\n').slice(-3).join(' ')
  return said === '' ? '' : ` (${said})`
}
