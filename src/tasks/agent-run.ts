import type { Agent, AgentJob, AgentOutcome, AgentParser } from '../agents/types.ts'
import { toVivariumError } from '../contracts/errors.ts'
import type { NewEvent } from '../contracts/event.ts'
import type { ExecExit, ExecOutput, GuestLink, OutputAcks } from '../link/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { BEGINNING, OutputCursor, type OutputPosition } from './output-cursor.ts'
import type { Recorder } from './recorder.ts'
import type { RunClock } from './run-clock.ts'
import type { Timings } from './settings.ts'
import { isMachineGone, type StopReason, type StopSwitch } from './stop.ts'
import { onAbort, pause } from './waiting.ts'

/** An agent that prints more than this only fills the disk. */
const MAX_OUTPUT_BYTES = 2 * 1024 ** 3

/** So much output a guest keeps for us at most (its spool holds 64 MiB), and a line that has begun is given up beyond it. */
const MAX_LAG_BYTES = 40 * 1024 * 1024

/** Output that became no event: the guest may forget it after so much. */
const QUIET_BYTES = 4 * 1024 * 1024

/** What an event takes in the log beside its text, in bytes: lines of one character each would fill the disk, too. */
const EVENT_BYTES = 200

export interface AgentRunOptions {
  agent: Agent
  job: AgentJob
  link: GuestLink
  /** The agent's process. Starting it is repeatable: one that runs already is left as it is. */
  execId: string
  /** Whether it was started already, and waits for its prompt. */
  isStarted: boolean
  /** How far another orchestrator has read its output. */
  checkpoint: RunCheckpoint | undefined
  /** Resolves with the reason when the machine is lost. */
  lost: Promise<string>
  timeoutSeconds: number
  recorder: Recorder
  stop: StopSwitch
  /** Aborts when the process is to be left to another orchestrator, as it is. */
  leave: AbortSignal
  /** Aborts when there is no time left to be patient with the process. */
  hurry: AbortSignal
  /** Already scaled to the engine. */
  timings: Timings
  /** The run's own time: limits don't count what the task spends waiting. */
  clock: RunClock
  /** Lets a suspended machine go on, so that its process can be ended. */
  wake: () => Promise<void>
  /** Called once, when the agent has begun to do something. */
  onBegun: () => void
}

/** How far an agent's output has become events: stored with them. */
export interface RunCheckpoint {
  position: OutputPosition
  /** `AgentParser.state` */
  parser: unknown
  /** What was printed so far, as `MAX_OUTPUT_BYTES` counts it. */
  bytes: number
  /** How the process ended, once all of its output is read. */
  exit?: ExecExit
}

export interface AgentEnd {
  outcome: AgentOutcome
  /** Undefined when the process was given up, or its machine lost. */
  exit: ExecExit | undefined
  /** Why it was ended, where it did not end by itself. */
  stopped: StopReason | undefined
  /** Lets the guest forget the process; nobody can take up the run after that. */
  forget(): void
}

type Printed = Extract<ExecOutput, { data: Buffer }>

const UNKNOWN_EXIT: ExecExit = { code: null, signal: null, outOfMemory: false }

/**
 * Runs the agent's process to its end and its output into the log. It ends by itself, by its time limit, by `stop`, or some time after
 * a result when it has nothing left to do. Never rejects for what the guest does; rejects with `LeftRunning` when it was to be left.
 */
export async function runAgent(options: AgentRunOptions): Promise<AgentEnd> {
  const { agent, job, link, stop, clock, timeoutSeconds } = options
  await using cleanup = new AsyncDisposableStack()
  const parser = agent.parser(job, options.checkpoint?.parser)
  cleanup.defer(() => parser.close())
  const run = new AgentProcess(options, parser)
  cleanup.use(run)
  const overdue = `The time limit of ${timeoutSeconds} s was over before the agent was done (timeoutSeconds).`
  const leftMs = Math.max(0, timeoutSeconds * 1000 - clock.reading.ranMs)
  cleanup.use(clock.timer(leftMs, () => stop.stop('timed_out', overdue)))
  try {
    if (!options.isStarted) await link.start(run.id, agent.spec(job), stop.signal)
    crashPoint('run started')
    void run.feed(agent.input(job))
    await run.read()
  } catch (error) {
    if (!run.isLeft) await failed(options, error)
  }
  if (run.isLeft) throw new LeftRunning()
  const stopped = stop.reason
  await run.sweep()
  // A process that we ended after its result is judged by the result alone.
  const exit = run.lingered ? { ...UNKNOWN_EXIT, code: 0 } : run.exit
  return { outcome: parser.outcome(exit ?? UNKNOWN_EXIT), exit, stopped, forget: () => run.forget() }
}

/** A run was left as it is, to be taken up by another orchestrator. */
export class LeftRunning extends Error {}

/** Makes what broke the run its reason to stop. When the link is gone, the machine usually says why a moment later. */
async function failed({ stop, lost, timings }: AgentRunOptions, error: unknown): Promise<void> {
  const { code, message } = toVivariumError(error)
  if (code === 'guest_lost') await Promise.race([lost, pause(timings.lostMs)])
  stop.stop(code, message)
}

/** What an agent prints while it starts is for its log only. */
function isDoing(event: NewEvent): boolean {
  return event.type !== 'log' || event.level !== 'debug'
}

/** The process in the guest: read until it exits, ended when it must be. */
class AgentProcess implements Disposable {
  readonly id: string
  exit: ExecExit | undefined
  lingered = false
  readonly #options: AgentRunOptions
  readonly #parser: AgentParser
  /** Aborts when its output is not waited for any more. */
  readonly #giveUp = new AbortController()
  readonly #ended = new AbortController()
  readonly #cleanup = new DisposableStack()
  #linger: Disposable | undefined
  #hasBegun = false
  #bytes: number
  #quietBytes = 0
  readonly #cursor: OutputCursor
  #acks: OutputAcks | undefined
  #exitAt: number | undefined

  constructor(options: AgentRunOptions, parser: AgentParser) {
    this.#options = options
    this.id = options.execId
    this.#parser = parser
    this.#bytes = options.checkpoint?.bytes ?? 0
    this.#cursor = new OutputCursor(options.checkpoint?.position ?? BEGINNING)
    this.#cleanup.use(onAbort(options.stop.signal, () => void this.#end()))
    this.#cleanup.use(onAbort(options.hurry, () => this.#giveUp.abort()))
    this.#cleanup.use(onAbort(options.leave, () => this.#giveUp.abort()))
  }

  /** Gives the process its stdin. A process may end without reading it all; one that goes on without its prompt is stopped. */
  async feed(input: Buffer): Promise<void> {
    const { link, stop, timings } = this.#options
    try {
      await link.input(this.id, 0, input, true, this.#ended.signal)
    } catch (error) {
      await pause(timings.terminateMs, this.#ended.signal)
      if (this.#ended.signal.aborted) return
      const { code, message } = toVivariumError(error)
      stop.stop(code, `The agent could not be given its prompt: ${message}`)
    }
  }

  /** Reads and records all output. Resolves when the process has exited or was given up. */
  async read(): Promise<void> {
    const { link, recorder, checkpoint } = this.#options
    if (checkpoint?.exit !== undefined) {
      this.exit = checkpoint.exit
      return
    }
    const from = checkpoint?.position.from ?? BEGINNING.from
    const { pieces, acks } = link.keptOutput(this.id, from, this.#giveUp.signal)
    this.#acks = acks
    // Only what is in the log may be forgotten: until then another orchestrator would have to read it.
    recorder.onStored = (stored) => {
      crashPoint('checkpoint stored')
      acks.taken((stored as RunCheckpoint).position.from)
    }
    try {
      for await (const piece of pieces) {
        if (piece.kind !== 'exit') await this.#record(piece)
        else {
          crashPoint('exit seen')
          this.exit = piece.exit
          this.#exitAt = piece.next
        }
      }
    } catch (error) {
      // Giving up is our own doing and already has its reason.
      if (!this.#giveUp.signal.aborted) throw error
    } finally {
      this.#ended.abort()
      if (!this.isLeft) await this.#recordEnd()
    }
  }

  /** What is left over becomes events, and with them it is known that nothing is. */
  async #recordEnd(): Promise<void> {
    const events = await this.#parser.end()
    const exit = this.exit === undefined ? {} : { exit: this.exit }
    await this.#options.recorder.write(events, { ...this.#reached(this.#cursor.end()), ...exit })
  }

  #reached(position: OutputPosition): RunCheckpoint {
    return { position, parser: this.#parser.state(), bytes: this.#bytes }
  }

  async #record(piece: Printed): Promise<void> {
    const { recorder, stop } = this.#options
    this.#bytes += piece.data.length
    if (this.#bytes > MAX_OUTPUT_BYTES) {
      const message = `The agent printed more than ${MAX_OUTPUT_BYTES / 1024 ** 3} GiB, or very many lines.`
      return stop.stop('guest_misbehaved', message)
    }
    const events = await this.#parser.push(piece.kind, this.#cursor.take(piece))
    if (this.#cursor.lag > MAX_LAG_BYTES) events.push(...(await this.#parser.cut()))
    this.#bytes += events.length * EVENT_BYTES
    const position = this.#cursor.settle(piece, this.#parser.pending)
    if (events.some(isDoing)) this.#begin()
    this.#quietBytes = events.length > 0 ? 0 : this.#quietBytes + piece.data.length
    if (events.length > 0 || this.#quietBytes > QUIET_BYTES) {
      await recorder.write(events, this.#reached(position))
    }
    if (this.#quietBytes > QUIET_BYTES) {
      this.#quietBytes = 0
      await recorder.flush()
    }
    this.#watchLingering()
  }

  /** Lets the guest forget all of the process. */
  forget(): void {
    if (this.#exitAt !== undefined) this.#acks?.taken(this.#exitAt, true)
  }

  /** Kills what the process left behind, so that nothing writes while files are collected. */
  async sweep(): Promise<void> {
    const { link, lost, timings, hurry } = this.#options
    this[Symbol.dispose]()
    await Promise.race([this.#signal(link, 'SIGKILL'), lost, pause(timings.killMs, hurry)])
  }

  [Symbol.dispose](): void {
    this.#linger?.[Symbol.dispose]()
    this.#ended.abort()
    this.#cleanup.dispose()
  }

  /** Whether it is another orchestrator's to read on. */
  get isLeft(): boolean {
    return this.#options.leave.aborted && this.exit === undefined
  }

  #begin(): void {
    if (this.#hasBegun) return
    this.#hasBegun = true
    this.#options.onBegun()
  }

  #watchLingering(): void {
    this.#linger?.[Symbol.dispose]()
    if (this.#parser.resultAt === undefined) return
    this.#linger = this.#options.clock.timer(this.#options.timings.lingerMs, () => void this.#endLingering())
  }

  async #endLingering(): Promise<void> {
    if (this.#options.stop.reason !== undefined) return
    this.lingered = true
    this.#options.recorder.note({
      type: 'log',
      level: 'warn',
      message: 'The agent gave its result but its process did not end; it was ended',
    })
    await this.#end()
  }

  /** SIGTERM, then SIGKILL, then giving up; each has its time. A lost machine is given up at once. */
  async #end(): Promise<void> {
    const { link, stop, timings, wake } = this.#options
    await wake()
    const steps = [
      { signal: 'SIGTERM', ms: timings.terminateMs },
      { signal: 'SIGKILL', ms: timings.killMs },
    ] as const
    for (const { signal, ms } of steps) {
      if (this.#ended.signal.aborted || isMachineGone(stop.reason)) break
      void this.#signal(link, signal)
      await pause(ms, AbortSignal.any([this.#ended.signal, this.#giveUp.signal]))
    }
    this.#giveUp.abort()
  }

  async #signal(link: GuestLink, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    try {
      await link.kill(this.id, signal)
    } catch {
      // Gone already, or out of reach: what follows a signal does not depend on whether it arrived.
    }
  }
}
