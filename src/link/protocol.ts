/**
 * The contract of the guest link: what the host and the guest agent say to each other. The host checks everything it
 * receives against the schemas here; the guest trusts the host and imports types only (its constants come from
 * `constants.ts`), so that the agent stays small and starts fast.
 *
 * Two byte streams per machine, both opened by the guest: `control` (the host is the HTTP/2 client) and `egress` (the
 * guest is). A virtio-serial port has no session boundary, so each session is started explicitly:
 *
 *     host  → guest   VIVARIUM/1 hello <nonce>\n     every HELLO_INTERVAL_MS until echoed
 *     guest → host    VIVARIUM/1 echo <nonce>\n      once for every hello
 *     host  → guest   VIVARIUM/1 go <nonce>\n        once
 *     guest → host    VIVARIUM/1 ready <nonce>\n     once; HTTP/2 follows in both directions
 *
 * Each side begins a stream with FLUSH_BYTES line feeds, and discards what comes before the line it waits for, up to
 * MAX_PREAMBLE_BYTES: it may be the rest of a session that the other side never saw end. After any error a side closes
 * its end of the stream and starts over. A parked guest (`POST /park`) leaves out the line feeds: it waits without a word.
 */
import { z } from 'zod'

export * from './constants.ts'

// ---- POST /hello: host → guest after every boot and restore, before anything else --------------------------------------

export const HelloRequest = z.object({
  /** Milliseconds since the epoch, when the request is sent: the guest sets its clock by it. */
  wallClockMs: z.number(),
  /** 64 fresh random bytes in hex: the guest's kernel credits them and begins its random numbers anew. */
  entropyHex: z.string().length(128),
  hostname: z.string().max(63),
  /** 32 hex digits. Another one than before: this is another machine, which gets a boot id of its own. */
  machineId: z.string().length(32),
})
export type HelloRequest = z.infer<typeof HelloRequest>

export const HelloResponse = z.object({
  protocol: z.int(),
  agentVersion: z.string().max(100),
  /** The machine's boot id: tells a reboot, and a copy of another machine, from a reconnect. */
  bootId: z.string().max(100),
  /** Milliseconds since the guest's kernel started. */
  uptimeMs: z.number(),
})
export type HelloResponse = z.infer<typeof HelloResponse>

// ---- POST /park: the guest is about to be saved ------------------------------------------------------------------------

/**
 * From here on, what guest programs ask of the outside waits in the guest. Requests to the model that are under way may end
 * first, for `drainMs` at most; everything else on `egress` is cut. Then the guest closes its end of `egress`, answers, closes its
 * end of `control`, without a word of HTTP/2, and opens both anew: on each it waits, in silence, for a preamble. The next hello makes it
 * go on. Processes run on; their output waits in its spool.
 */
export const ParkRequest = z.object({ drainMs: z.number().nonnegative() })
export type ParkRequest = z.infer<typeof ParkRequest>

export const ParkResponse = z.object({})
export type ParkResponse = z.infer<typeof ParkResponse>

// ---- /execs/{id} -----------------------------------------------------------------------------------------------------

/** Of a terminal, in characters. */
export const TerminalSize = z.object({ rows: z.int(), cols: z.int() })
export type TerminalSize = z.infer<typeof TerminalSize>

/**
 * `PUT /execs/{id}`: start a process. Idempotent by id: a second PUT with the same id starts nothing,
 * and one that an agent before a restart has started is gone (410). With `?output=1` the
 * answer is the output from its beginning, as if `GET /execs/{id}/output?from=0` had followed: a round trip less.
 */
export const ExecSpec = z.object({
  argv: z.array(z.string()).min(1),
  env: z.record(z.string(), z.string()),
  cwd: z.string(),
  /** Guest user to run as. */
  user: z.enum(['root', 'agent']),
  /** `none`: stdin is /dev/null (an idle open stdin costs Claude Code 3 s). */
  stdin: z.enum(['none', 'pipe']),
  /**
   * Give it a terminal of this size, whose input is `stdin`, a pipe, and whose output is stdout. The end of the input hangs up. A command that
   * can't be started then says so in the terminal and exits with 127.
   */
  tty: TerminalSize.optional(),
})
export type ExecSpec = z.infer<typeof ExecSpec>

export const ExecStarted = z.object({ pid: z.int() })
export type ExecStarted = z.infer<typeof ExecStarted>

/**
 * `GET /execs/{id}/output?from=N`: the spool from byte N on, live until the exit frame. The spool is a sequence of frames,
 * `kind: u8, length: u32 big-endian, payload`; N is always a frame boundary (the end of the last whole frame received).
 * `POST /execs/{id}/ack?to=N` lets the guest drop what lies before N; while SPOOL_BYTES (of a terminal
 * TERMINAL_SPOOL_BYTES) are unacknowledged the writer blocks.
 * The last frame is `exit`, whose payload is an ExecExit as JSON.
 */
export const ExecExit = z.object({
  /** Exit code, or null when a signal ended the process. */
  code: z.int().nullable(),
  /** e.g. `SIGKILL`. */
  signal: z.string().max(20).nullable(),
  /** Whether the kernel's out-of-memory killer struck in this guest while the process ran. */
  outOfMemory: z.boolean(),
})
export type ExecExit = z.infer<typeof ExecExit>

/**
 * `PUT /execs/{id}/input?at=N[&end=1]` answers how much input the process has been given: overlap is ignored, a gap refused
 * (409), what the process no longer reads is dropped.
 */
export const InputAccepted = z.object({ at: z.int().nonnegative() })
export type InputAccepted = z.infer<typeof InputAccepted>

/** `POST /execs/{id}/resize` with a TerminalSize: its terminal's programs are told. */

/** `POST /execs/{id}/signal`: to every process the exec started, also those that left its process group. */
export const SignalRequest = z.object({
  signal: z.enum(['SIGINT', 'SIGTERM', 'SIGKILL', 'SIGHUP', 'SIGSTOP', 'SIGCONT']),
})
export type SignalRequest = z.infer<typeof SignalRequest>

// ---- files ---------------------------------------------------------------------------------------------------------

/** `GET /tree?path=` */
export const TreeEntry = z.object({
  path: z.string().max(8192),
  type: z.enum(['file', 'directory', 'symlink', 'other']),
  size: z.number().nonnegative(),
  mode: z.int(),
})
export type TreeEntry = z.infer<typeof TreeEntry>
export const TreeResponse = z.object({ entries: z.array(TreeEntry), truncated: z.boolean() })
export type TreeResponse = z.infer<typeof TreeResponse>

/** `GET /files?path=` streams one file; `PUT /files?path=&mode=0644` writes one, owned by the agent user, folders made. */
/** `PUT /archive?path=` unpacks a tar stream; `POST /archive` with an ArchiveRequest streams those paths back as one. */
export const ArchiveRequest = z.object({
  root: z.string(),
  paths: z.array(z.string()),
  /** With everything below those paths that are folders. */
  recursive: z.boolean().optional(),
})
export type ArchiveRequest = z.infer<typeof ArchiveRequest>

/** `POST /baseline`: the state of `root` from now on counts as "before"; `git` also records contents for `GET /patch`. */
export const BaselineRequest = z.object({ root: z.string(), git: z.boolean(), exclude: z.array(z.string()) })
export type BaselineRequest = z.infer<typeof BaselineRequest>

/** `GET /changes`: one JSON object a line, then an end line; created, changed and deleted since the baseline. */
export const Change = z.object({
  /** Relative to the baseline's root, `/` between segments. Names that are not UTF-8 are left out and counted in the end line. */
  path: z.string().min(1).max(8192),
  kind: z.enum(['created', 'changed', 'deleted']),
  type: z.enum(['file', 'symlink']),
  size: z.number().nonnegative(),
})
export type Change = z.infer<typeof Change>
export const ChangesEnd = z.object({ end: z.literal(true), skipped: z.int().nonnegative() })
export type ChangesEnd = z.infer<typeof ChangesEnd>

/** `GET /patch`: `git diff --binary` of the workspace against the baseline; 404 when the baseline has no git part. */

/** Every refusal of the agent: `{error: sentence}` with a 4xx or 5xx status. */
export const AgentError = z.object({ error: z.string().max(4096) })
export type AgentError = z.infer<typeof AgentError>
