import type { Duplex, Readable } from 'node:stream'
import type {
  ArchiveRequest,
  BaselineRequest,
  Change,
  ExecExit,
  ExecSpec,
  HelloResponse,
  SignalRequest,
  TerminalSize,
  TreeEntry,
} from './protocol.ts'

export type { ArchiveRequest, BaselineRequest, Change, ExecExit, ExecSpec, HelloResponse, SignalRequest, TreeEntry }

/** A piece of an exec's output. `next` is the spool offset to go on from after this piece. */
export type ExecOutput =
  | { kind: 'stdout' | 'stderr'; data: Buffer; next: number }
  | { kind: 'exit'; exit: ExecExit; next: number }

/** Tells the guest what of an exec's output it may forget. */
export interface OutputAcks {
  /** Everything before `offset` is safe on the host. `last`: that is all there is, its exit included. Nobody waits for the guest to hear of it. */
  taken(offset: number, last?: boolean): void
}

/** Output of a short command, kept in memory up to a cap. */
export interface ExecResult {
  exit: ExecExit
  stdout: Buffer
  stderr: Buffer
  /** Output beyond the cap was dropped. */
  truncated: boolean
  timedOut: boolean
}

/**
 * The host's end of one machine's link. Survives reconnects: a call made while no session is up waits for one, within its
 * deadline. Every call rejects with a VivariumError: `guest_lost` (no session in time, or the machine went),
 * `guest_misbehaved` (an answer that breaks the protocol or a cap), `not_found`, `invalid_request` (the agent refused).
 */
export interface GuestLink extends AsyncDisposable {
  /** Introduces host and guest after every boot and restore: clock, entropy, identity. Resolves when the agent answered. */
  hello(identity: { hostname: string }, signal: AbortSignal): Promise<HelloResponse>
  /** Starts a process; idempotent by `id`. */
  start(id: string, spec: ExecSpec, signal?: AbortSignal): Promise<void>
  /**
   * The output of `id` from spool offset `from` on, live, ending after the exit. Goes on by itself after a reconnect.
   * Acknowledges what the consumer has taken, so a slow consumer holds the process back, never the host's memory.
   */
  output(id: string, from: number, signal?: AbortSignal): AsyncIterable<ExecOutput>
  /** The same for who must be able to read it again: nothing is forgotten but by `acks`. */
  keptOutput(id: string, from: number, signal?: AbortSignal): { pieces: AsyncIterable<ExecOutput>; acks: OutputAcks }
  /** Writes `data` as the stdin bytes at offset `at`; `end` closes stdin behind them. */
  input(id: string, at: number, data: Buffer, end: boolean, signal?: AbortSignal): Promise<void>
  /** Gives the terminal of a process that was started with one another size. */
  resize(id: string, size: TerminalSize, signal?: AbortSignal): Promise<void>
  /** Signals every process that the exec started. */
  kill(id: string, signal: SignalRequest['signal']): Promise<void>
  /** Runs a command to its end. `stdin` is given whole; output beyond `maxBytes` per stream is dropped. */
  exec(
    spec: Omit<ExecSpec, 'stdin'>,
    options: { timeoutMs: number; maxBytes?: number; stdin?: Buffer; signal?: AbortSignal },
  ): Promise<ExecResult>
  /** One regular file as a stream of at most `maxBytes` (more rejects with `too_large`). `size` is what the guest claims. */
  readFile(path: string, options: { maxBytes: number; signal?: AbortSignal }): Promise<{ size: number; body: Readable }>
  writeFile(path: string, content: Buffer | Readable, options?: { mode?: number; signal?: AbortSignal }): Promise<void>
  tree(path: string, signal?: AbortSignal): Promise<{ entries: TreeEntry[]; truncated: boolean }>
  /** Unpacks a tar stream below `path`, as the agent user. */
  putArchive(path: string, tar: Readable, signal?: AbortSignal): Promise<void>
  /** The named paths as a tar stream, to be treated as hostile. */
  getArchive(request: ArchiveRequest, signal?: AbortSignal): Promise<Readable>
  baseline(request: BaselineRequest, signal?: AbortSignal): Promise<void>
  /** Changes since the baseline, capped at `maxEntries`. */
  changes(options: {
    maxEntries: number
    signal?: AbortSignal
  }): Promise<{ changes: Change[]; skipped: number; truncated: boolean }>
  /** The workspace's changes as a git patch of at most `maxBytes`, or undefined when the baseline holds no contents. */
  patch(options: { maxBytes: number; signal?: AbortSignal }): Promise<Readable | undefined>
  /**
   * Asks the guest to close its sessions and to wait for new ones, as it must before it is saved. Requests to the model that
   * are under way may end first, for `drainMs` at most; new ones wait in the guest. From then on the link is silent: it
   * takes connections without a word, calls wait, no deadline runs. Nothing happens where it is silent already. After a rejection
   * the guest may be parked or not: `wake` and `hello` make it go on.
   */
  park(options: { drainMs: number }, signal?: AbortSignal): Promise<void>
  /** Ends the silence: the connection at hand, or the next, begins a session. Call `hello` next. */
  wake(): void
  /** The guest's processors stand still, or go on: nothing is expected of it meanwhile. */
  halt(isHalted: boolean): void
  /** Resolves (never rejects) with a sentence when the link is given up: no session within its deadline, or closed. */
  readonly lost: Promise<string>
  /** Takes a new `control` connection that the machine's guest has opened; the newest one counts. */
  accept(socket: Duplex): void
}
