import { once } from 'node:events'
import { rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExecExit, ExecSpec, SignalRequest, TerminalSize } from '../../src/link/protocol.ts'
import { Refusal } from '../http.ts'
import { messageOf } from '../log.ts'
import { Input } from './input.ts'
import {
  type Ended,
  type Launched,
  LaunchFailure,
  type Launcher,
  type LaunchRequest,
  LauncherLost,
} from './launcher.ts'
import { oomKills } from './memory.ts'
import { Spool } from './spool.ts'
import { inTerminal, resizeTerminal } from './terminal.ts'
import type { Tracker } from './tracking.ts'
import { baseEnvironment, userNamed } from './users.ts'

export interface ExecContext {
  launcher: Launcher
  /** Tracks the processes of an exec whose first one is in `group`, a cgroup folder, or '' for none. */
  track: (group: string) => Tracker
  spoolDir: string
  /** Unacknowledged output at which the process is held back. */
  spoolBytes: number
  switchUsers: boolean
  proxyPort: number
  /** Below what every process gets, which is below what the request asks for. */
  environment: Record<string, string>
  /** Called when the process was lost: see `Exec`. */
  onLost: () => void
}

/** How long output may be silent after the process ended, while others of its processes hold its pipes open. */
const SILENCE_MS = 1000
/** How long output is recorded after that end at most. */
const AFTERMATH_MS = 10_000
const KILL_ROUNDS = 20
/** Of a process that may have run, or still does, but whose end nobody learns. */
export const LOST = 'the agent has lost the process'

/**
 * One process the host started. It ends when its first process has ended and its output was read to the end, or, where
 * background processes keep the pipes open, has been silent for SILENCE_MS. Those processes live on until somebody signals
 * the exec or the machine goes; what they print from then on is read and dropped, so that they do not die of it.
 *
 * A process whose launcher died is lost: nobody would learn how it ends. It is killed, and requests about it are refused.
 */
export class Exec {
  readonly spool: Spool
  readonly input: Input | undefined
  readonly pid: number
  readonly #outputs: Socket[]
  readonly #tracker: Tracker
  readonly #spoolDir: string
  readonly #oomKillsBefore: number
  #recording = true

  private constructor(launched: Launched, context: ExecContext, oomKillsBefore: number) {
    const { pid, group, stdout, stderr, stdin, ended } = launched
    this.pid = pid
    this.#oomKillsBefore = oomKillsBefore
    this.#outputs = [stdout, stderr]
    this.#tracker = context.track(group)
    this.#spoolDir = context.spoolDir
    this.input = stdin === undefined ? undefined : new Input(stdin)
    this.spool = new Spool(context.spoolDir, context.spoolBytes, () => this.#resume())
    this.#record(stdout, 'stdout')
    this.#record(stderr, 'stderr')
    ended.then(
      (end) => this.#end(end),
      () => {
        this.#lose()
        context.onLost()
      },
    )
  }

  /** Starts the process. Rejects with a Refusal when it can't be started. */
  static async start(spec: ExecSpec, context: ExecContext): Promise<Exec> {
    const { launcher, environment, switchUsers, proxyPort } = context
    const user = userNamed(spec.user)
    const request: LaunchRequest = {
      argv: spec.tty === undefined ? spec.argv : inTerminal(spec.argv, spec.tty),
      env: { ...environment, ...baseEnvironment(user, proxyPort), ...spec.env },
      cwd: spec.cwd,
      stdin: spec.stdin === 'pipe',
      owner: switchUsers ? { uid: user.uid, gid: user.gid } : undefined,
    }
    try {
      if (spec.argv.length === 0) throw new Refusal(400, 'argv is empty')
      if (containsNul(request)) throw new Refusal(400, 'no argument, variable or folder may hold a NUL')
      const launching = launcher.start(request)
      // Counted while the program starts, not before: it takes the kernel some time.
      const oomKillsBefore = await Promise.resolve().then(oomKills)
      return new Exec(await launching, context, oomKillsBefore)
    } catch (error) {
      throw asRefusal(error, spec)
    }
  }

  /** Signals every process that the exec started. */
  async signal(signal: SignalRequest['signal']): Promise<void> {
    if (signal !== 'SIGKILL') return this.#signalListed(signal)
    if (this.#tracker.killAll()) return
    for (let round = 0; round < KILL_ROUNDS && this.#tracker.list(this.pid).length > 0; round += 1) {
      this.#signalListed(signal)
      await sleep(5)
    }
  }

  /** Gives its terminal, if it has one, another size. */
  async resize(size: TerminalSize): Promise<void> {
    if (this.#recording) await resizeTerminal(this.pid, size)
  }

  /** The host has everything before `to`. */
  ack(to: number): void {
    this.spool.ack(to)
    if (!this.#recording && this.spool.start === this.spool.end) {
      rmSync(this.#spoolDir, { recursive: true, force: true })
      this.#tracker.dispose()
    }
  }

  #signalListed(signal: SignalRequest['signal']): void {
    for (const pid of this.#tracker.list(this.pid)) {
      try {
        process.kill(pid, signal)
      } catch {
        // Gone since it was listed.
      }
    }
  }

  #record(output: Socket, kind: 'stdout' | 'stderr'): void {
    output.on('error', () => undefined)
    output.on('data', (data: Buffer) => {
      if (!this.#recording) return
      this.spool.append(kind, data)
      if (this.spool.full) for (const each of this.#outputs) each.pause()
    })
  }

  #resume(): void {
    for (const each of this.#outputs) each.resume()
  }

  async #end({ code, signal }: Ended): Promise<void> {
    await this.#outputsQuiet()
    this.#recording = false
    this.#resume()
    this.input?.close()
    const exit: ExecExit = { code, signal, outOfMemory: oomKills() > this.#oomKillsBefore }
    this.spool.finish(Buffer.from(JSON.stringify(exit)))
  }

  #lose(): void {
    this.#recording = false
    this.#resume()
    this.input?.close()
    this.spool.abandon()
    void this.signal('SIGKILL').finally(() => this.#tracker.dispose())
  }

  /** Resolves when both outputs have ended, or have nothing more to say. */
  async #outputsQuiet(): Promise<void> {
    const closed = Promise.all(this.#outputs.map((output) => output.closed || once(output, 'close'))).then(() => true)
    let before = -1
    let silentMs = 0
    for (let elapsedMs = 0; elapsedMs < AFTERMATH_MS && silentMs < SILENCE_MS;) {
      if (await Promise.race([closed, sleep(100, false)])) return
      // While the spool is full nothing is read: that is not silence.
      if (this.spool.full) continue
      elapsedMs += 100
      silentMs = this.spool.end === before ? silentMs + 100 : 0
      before = this.spool.end
    }
  }
}

function containsNul({ argv, env, cwd }: LaunchRequest): boolean {
  return [cwd, ...argv, ...Object.entries(env).flat()].some((text) => text.includes('\0'))
}

/** What a request to start something is answered when it failed. */
function asRefusal(error: unknown, { argv, cwd }: ExecSpec): Refusal {
  if (error instanceof Refusal) return error
  if (error instanceof LauncherLost) return new Refusal(410, LOST)
  const { step, message } = error instanceof LaunchFailure ? error : { step: '', message: messageOf(error) }
  if (step === 'folder' && message === 'No such file or directory')
    return new Refusal(422, `the folder ${cwd} does not exist`)
  if (step === 'folder') return new Refusal(422, `cannot enter the folder ${cwd}: ${message}`)
  return new Refusal(422, `cannot start ${argv[0]}: ${message}`)
}
