import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExecExit, ExecSpec, SignalRequest, TerminalSize } from '../../src/link/protocol.ts'
import { Refusal } from '../http.ts'
import { messageOf } from '../log.ts'
import { Input } from './input.ts'
import { forkUnspared, oomKills } from './memory.ts'
import type { Pipes } from './pipes.ts'
import { Spool } from './spool.ts'
import { inTerminal, resizeTerminal } from './terminal.ts'
import type { Tracker } from './tracking.ts'
import { baseEnvironment, userNamed } from './users.ts'

export interface ExecContext {
  pipes: Pipes
  tracker: Tracker
  spoolDir: string
  /** Unacknowledged output at which the process is held back. */
  spoolBytes: number
  switchUsers: boolean
  proxyPort: number
  /** Below what every process gets, which is below what the request asks for. */
  environment: Record<string, string>
}

/** How long output may be silent after the process ended, while others of its processes hold its pipes open. */
const SILENCE_MS = 1000
/** How long output is recorded after that end at most. */
const AFTERMATH_MS = 10_000
const KILL_ROUNDS = 20

/**
 * One process the host started. It ends when its first process has ended and its output was read to the end, or, where
 * background processes keep the pipes open, has been silent for SILENCE_MS. Those processes live on until somebody signals
 * the exec or the machine goes; what they print from then on is read and dropped, so that they do not die of it.
 */
export class Exec {
  readonly spool: Spool
  readonly input: Input | undefined
  readonly pid: number
  readonly #outputs: Socket[]
  readonly #tracker: Tracker
  readonly #spoolDir: string
  readonly #oomKillsBefore = oomKills()
  #recording = true

  private constructor(
    child: ChildProcess,
    pid: number,
    outputs: [Socket, Socket],
    stdin: Socket | undefined,
    context: ExecContext,
  ) {
    this.pid = pid
    this.#outputs = outputs
    this.#tracker = context.tracker
    this.#spoolDir = context.spoolDir
    this.input = stdin === undefined ? undefined : new Input(stdin)
    this.spool = new Spool(context.spoolDir, context.spoolBytes, () => this.#resume())
    this.#record(outputs[0], 'stdout')
    this.#record(outputs[1], 'stderr')
    child.once('exit', (code, signal) => void this.#end(code, signal))
  }

  /** Starts the process. Rejects with a Refusal when it can't be started. */
  static async start(spec: ExecSpec, context: ExecContext): Promise<Exec> {
    const [command, ...args] = spec.tty === undefined ? spec.argv : inTerminal(spec.argv, spec.tty)
    if (command === undefined) throw new Refusal(400, 'argv is empty')
    const user = userNamed(spec.user)
    const owner = context.switchUsers ? { uid: user.uid, gid: user.gid } : undefined
    const { pipes } = context
    const [out, err] = [await pipes.output(), await pipes.output()]
    const stdin = spec.stdin === 'pipe' ? await pipes.input() : undefined
    const ends = [out, err, ...(stdin === undefined ? [] : [stdin])]
    try {
      const child = context.tracker.launch(() =>
        forkUnspared(() =>
          spawn(command, args, {
            cwd: spec.cwd,
            env: { ...context.environment, ...baseEnvironment(user, context.proxyPort), ...spec.env },
            detached: true,
            stdio: [stdin?.theirs ?? 'ignore', out.theirs, err.theirs],
            ...owner,
          }),
        ),
      )
      await once(child, 'spawn')
      if (child.pid === undefined) throw new Error('no pid')
      return new Exec(child, child.pid, [out.ours, err.ours], stdin?.ours, context)
    } catch (error) {
      for (const { ours } of ends) ours.destroy()
      context.tracker.dispose()
      const folderMissing = !existsSync(spec.cwd)
      throw new Refusal(
        422,
        folderMissing ? `the folder ${spec.cwd} does not exist` : `cannot start ${command}: ${messageOf(error)}`,
      )
    } finally {
      for (const { theirs } of ends) closeSync(theirs)
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

  async #end(code: number | null, signal: NodeJS.Signals | null): Promise<void> {
    await this.#outputsQuiet()
    this.#recording = false
    this.#resume()
    this.input?.close()
    const exit: ExecExit = { code, signal, outOfMemory: oomKills() > this.#oomKillsBefore }
    this.spool.finish(Buffer.from(JSON.stringify(exit)))
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
