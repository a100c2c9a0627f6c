import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { constants as os } from 'node:os'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { GUEST_USER } from '../../src/link/constants.ts'
import { attempt, log } from '../log.ts'
import { LAUNCHER_PROGRAM } from './launcher-program.ts'
import { maxProcesses } from './processes.ts'

/** A program to be started; strings without NUL. */
export interface LaunchRequest {
  argv: string[]
  env: Record<string, string>
  cwd: string
  /** Whether its stdin is a pipe; else it is /dev/null. */
  stdin: boolean
  /** Who it runs as; undefined: as the agent. */
  owner: { uid: number; gid: number } | undefined
}

export interface Launched {
  pid: number
  /** The cgroup folder it is in from its first instruction; '' for none. */
  group: string
  stdout: Socket
  stderr: Socket
  stdin: Socket | undefined
  /** Its end. Rejects with LauncherLost when nobody is left to learn of it. */
  ended: Promise<Ended>
}

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
}

/** Why a program was not started: the step that failed, `folder`, `program` or another, and the system's reason. */
export class LaunchFailure extends Error {
  readonly step: string
  constructor(step: string, reason: string) {
    super(reason)
    this.step = step
  }
}

/** The launcher has ended, and what it had started is nobody's. */
export class LauncherLost extends Error {}

export interface LauncherOptions {
  /** Whether programs run as others than the agent. */
  switchUsers: boolean
  /** Whether the out-of-memory killer spares the agent, as it must not what the agent starts. */
  spared: boolean
  /** Where each program gets a cgroup of its own, with a bound on its processes; undefined: nowhere. */
  cgroupDir: string | undefined
}

/** A child of the launcher. What nobody waits for may reject unheard. */
interface Child {
  ready: PromiseWithResolvers<Ends>
  started: PromiseWithResolvers<void>
  ended: PromiseWithResolvers<Ended>
}

/** Our ends of a child's pipes: descriptors and sockets. */
interface Ends {
  pid: number
  group: string
  request: number
  stdout: Socket
  stderr: Socket
  stdin: number
}

type Helper = ChildProcessByStdio<Writable, Readable, null>

const LONG_MS = 200
/** After a program's end: its host is answered first. */
const SETTLE_MS = 10

/**
 * Starts programs by a small process of its own. Forking the agent would copy the page tables of a large process, and hold it
 * up meanwhile; the launcher has a child ready, in a cgroup and with pipes, that only becomes the program. And what Node gives
 * a child are sockets, which cannot be opened again: a script's `echo … > /dev/stderr` fails with ENXIO; the launcher makes
 * pipes, whose ends the agent takes over by /proc.
 *
 * A launcher that has died is replaced; what it had started is then lost to the agent.
 */
export class Launcher {
  #helper: Helper | undefined
  /** Not given a program yet. */
  #spare: Child | undefined
  #count = 0
  readonly #children = new Map<string, Child>()
  readonly #arguments: string[]

  constructor({ switchUsers, spared, cgroupDir }: LauncherOptions) {
    const owner = switchUsers ? String(GUEST_USER.uid) : ''
    this.#arguments = [owner, spared ? '1' : '', cgroupDir ?? '', String(maxProcesses())]
    this.#prepareSpare()
  }

  /** Starts a program; rejects with LaunchFailure, or LauncherLost when it may have been started. */
  async start(request: LaunchRequest): Promise<Launched> {
    const child = this.#spare ?? this.#prepare()
    this.#spare = undefined
    const { stdin, ...ends } = await child.ready.promise
    give(ends.request, request)
    void this.#prepareAfter(child)
    const input = request.stdin ? new Socket({ fd: stdin, readable: false, writable: true }) : undefined
    if (input === undefined) closeSync(stdin)
    try {
      await child.started.promise
    } catch (error) {
      for (const socket of [ends.stdout, ends.stderr, input]) socket?.destroy()
      throw error
    }
    return { ...ends, stdin: input, ended: child.ended.promise }
  }

  /** Has the next child prepared once a program has ended, or runs for long: a short one has the processors for itself. */
  async #prepareAfter({ started, ended }: Child): Promise<void> {
    await Promise.race([Promise.allSettled([started.promise, ended.promise]), sleep(LONG_MS)])
    await sleep(SETTLE_MS)
    this.#prepareSpare()
  }

  #prepareSpare(): void {
    this.#spare ??= this.#prepare()
  }

  #prepare(): Child {
    const helper = (this.#helper ??= this.#begin())
    const child: Child = {
      ready: Promise.withResolvers(),
      started: Promise.withResolvers(),
      ended: Promise.withResolvers(),
    }
    for (const { promise } of Object.values(child) as PromiseWithResolvers<unknown>[]) promise.catch(() => undefined)
    const id = String(this.#count++)
    this.#children.set(id, child)
    helper.stdin.write(`prepare ${id}\n`)
    return child
  }

  #begin(): Helper {
    const helper = spawn('perl', ['-e', LAUNCHER_PROGRAM, ...this.#arguments], {
      // A bare environment: what it starts has one of its own.
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    let rest = ''
    helper.stdout.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString('utf8')).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) this.#take(helper, line.split(' '))
    })
    helper.stdin.on('error', () => undefined)
    helper.once('error', (error) => this.#lose(helper, error.message))
    // Not at 'exit': what it said before is still to be read.
    helper.once('close', (code, signal) => this.#lose(helper, `it ended with ${signal ?? code}`))
    return helper
  }

  #take(helper: Helper, [event, id = '', ...words]: string[]): void {
    const child = this.#children.get(id)
    if (child === undefined) return
    if (event === 'ready') return this.#takeOver(helper, child, words)
    if (event === 'started') child.started.resolve()
    else {
      this.#children.delete(id)
      const failure = new LaunchFailure(words[0] ?? '', words.slice(1).join(' '))
      if (event === 'exited') child.ended.resolve(endedWith(Number(words[0]), Number(words[1])))
      else for (const { reject } of Object.values(child) as PromiseWithResolvers<never>[]) reject(failure)
    }
    // Killed before it had a program.
    if (this.#spare === child) this.#spare = undefined
  }

  /** Opens our ends of a child's pipes anew: with flags of their own, since only those of ours that Node polls must not block. */
  #takeOver(helper: Helper, child: Child, [pid, ...rest]: string[]): void {
    const [request, stdout, stderr, stdin, group = ''] = rest
    const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants
    const open = (fd: string | undefined, flags: number) => openSync(`/proc/${helper.pid}/fd/${fd}`, flags)
    try {
      child.ready.resolve({
        pid: Number(pid),
        group,
        request: open(request, O_WRONLY),
        stdout: output(open(stdout, O_RDONLY | O_NONBLOCK)),
        stderr: output(open(stderr, O_RDONLY | O_NONBLOCK)),
        stdin: open(stdin, O_WRONLY | O_NONBLOCK),
      })
      helper.stdin.write(`release ${request} ${stdout} ${stderr} ${stdin}\n`)
    } catch (error) {
      // It has died since it said so, or something is very wrong with it.
      log(`launcher: ${String(error)}`)
      helper.kill('SIGKILL')
    }
  }

  #lose(helper: Helper, reason: string): void {
    if (this.#helper !== helper) return
    log(`launcher: ${reason}`)
    this.#helper = this.#spare = undefined
    for (const { ready, started, ended } of this.#children.values()) {
      // Without a program yet: nothing is lost.
      ready.reject(new LaunchFailure('launcher', reason))
      started.reject(new LauncherLost())
      ended.reject(new LauncherLost())
    }
    this.#children.clear()
  }
}

function output(fd: number): Socket {
  return new Socket({ fd, readable: true, writable: false }).on('error', () => undefined)
}

/** Tells a child what to become. One that has died is told in vain, and the launcher says so. */
function give(fd: number, { argv, env, cwd, stdin, owner }: LaunchRequest): void {
  const environment = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const strings = Buffer.from([cwd, ...argv, ...environment, ''].join('\0'))
  const who = owner === undefined ? '- -' : `${owner.uid} ${owner.gid}`
  const head = `${who} ${stdin ? 1 : 0} ${argv.length} ${strings.length}\n`
  attempt('launcher', () => writeAll(fd, Buffer.concat([Buffer.from(head), strings])))
  closeSync(fd)
}

/** Blocks where the pipe is full: its reader does nothing but read. */
function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at)
}

function endedWith(code: number, signal: number): Ended {
  if (signal === 0) return { code, signal: null }
  const entry = Object.entries(os.signals).find(([, number]) => number === signal)
  return { code: null, signal: (entry?.[0] as NodeJS.Signals | undefined) ?? null }
}
