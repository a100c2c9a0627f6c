import type { Readable } from 'node:stream'
import type { z } from 'zod'
import type { EventList, TaskEvent } from '../contracts/event.ts'
import type { ExecRequest, ExecResponse, MachineInfo, MachineRequest } from '../contracts/machine.ts'
import type { AuditEntry, RotateResult, SecretInfo } from '../contracts/secret.ts'
import type { TerminalSize } from '../contracts/shell.ts'
import type { ExecEvent, Health, Leak, Me, Ready, VersionInfo } from '../contracts/server.ts'
import type { ForkRequest, ResultFile, Task, TaskList, TaskQuery, TaskRequestInput, Upload } from '../contracts/task.ts'
import type { Template, TemplateRequest } from '../contracts/template.ts'
import type { UsageGrouping, UsageRow } from '../contracts/usage.ts'
import type { ApiKey, NewApiKey, User } from '../contracts/user.ts'

/** `globalThis.fetch`, or an app's own `fetch`: then no socket is involved. */
type Fetch = (request: Request) => Response | Promise<Response>

export interface ClientOptions {
  /** Where the server listens, e.g. `http://127.0.0.1:8080`. */
  url: string
  /** Undefined only where nothing but `health`, `ready` is asked. */
  apiKey?: string | undefined
  fetch?: Fetch
}

/** Every call can be given up; it then rejects with the signal's reason. */
export interface CallOptions {
  signal?: AbortSignal | undefined
}

/** Bytes on their way. Whoever takes one reads it to its end or destroys `body`. */
export interface Download {
  mimeType: string
  /** Bytes to come; undefined where the server can't know. */
  size: number | undefined
  body: Readable
}

/** First and last byte, inclusive, as in HTTP ranges. */
export interface ByteRange {
  start: number
  end?: number | undefined
}

export interface TasksClient {
  /** With an `idempotencyKey`, asking twice gives the same task. */
  submit(request: TaskRequestInput, options?: CallOptions & { idempotencyKey?: string | undefined }): Promise<Task>
  get(id: string, options?: CallOptions): Promise<Task>
  /** Newest first. */
  list(query?: Partial<TaskQuery>, options?: CallOptions): Promise<TaskList>
  cancel(id: string, options?: CallOptions): Promise<Task>
  /** Branches off from a finished task: so many attempts, each a task of its own. */
  fork(id: string, request: z.input<typeof ForkRequest>, options?: CallOptions): Promise<Task[]>
  /** Forgets a finished task and its files. */
  remove(id: string, options?: CallOptions): Promise<void>
  /** One page of stored events. */
  events(id: string, query?: { from?: number; limit?: number }, options?: CallOptions): Promise<EventList>
  /**
   * Every event from `from` [1] on, history and then live, each exactly once; ends after the task's last one. A broken
   * connection is taken up again where it broke; rejects with `setup_required` when the server stays away.
   */
  follow(id: string, options?: CallOptions & { from?: number }): AsyncIterable<TaskEvent>
  files(id: string, options?: CallOptions): Promise<ResultFile[]>
  file(id: string, path: string, options?: CallOptions & { range?: ByteRange }): Promise<Download>
  /** The changes as a git patch. */
  patch(id: string, options?: CallOptions): Promise<Download>
  /** All files as tar.gz. */
  archive(id: string, options?: CallOptions): Promise<Download>
  /** Sends a workspace as a tar stream, for the `uploadId` of a task. */
  upload(tar: Readable, options?: CallOptions): Promise<Upload>
}

export interface ShellOptions {
  /** The command; a login shell unless given. */
  argv?: string[] | undefined
  /** Gives the process a terminal; `term` is its kind, as `TERM` names it. Otherwise its streams are pipes. */
  terminal?: (TerminalSize & { term?: string }) | undefined
}

export type ShellPiece = { kind: 'stdout' | 'stderr'; data: Buffer } | { kind: 'exit'; exitCode: number }

export interface ShellConnection {
  /** To be read once; the last piece is `exit`. Who reads slowly holds the process back. */
  output: AsyncIterable<ShellPiece>
  /** Resolves when the bytes are on their way; await that before the next. */
  write(data: Buffer): Promise<void>
  /** Ends the input. */
  end(): Promise<void>
  resize(size: TerminalSize): Promise<void>
  /** Cuts the connection. */
  close(): void
}

export interface MachinesClient {
  list(options?: CallOptions): Promise<MachineInfo[]>
  get(id: string, options?: CallOptions): Promise<MachineInfo>
  /** Resolves when the machine is ready. */
  create(request?: z.input<typeof MachineRequest>, options?: CallOptions): Promise<MachineInfo>
  destroy(id: string, options?: CallOptions): Promise<void>
  /** Saves it to disk and frees its memory; resolves when it is saved. */
  suspend(id: string, options?: CallOptions): Promise<MachineInfo>
  /** Resolves when it goes on. */
  resume(id: string, options?: CallOptions): Promise<MachineInfo>
  /** Runs a command to its end; output beyond 1 MiB per stream is dropped. Giving up kills it. */
  exec(id: string, request: z.input<typeof ExecRequest>, options?: CallOptions): Promise<ExecResponse>
  /** The same, live; the last piece is `exit`. Leaving early kills the command. */
  execStream(id: string, request: z.input<typeof ExecRequest>, options?: CallOptions): AsyncIterable<ExecEvent>
  /** Starts a process to talk to; resolves when the connection stands. Giving up, or leaving, hangs up on it. */
  shell(id: string, options?: ShellOptions & CallOptions): Promise<ShellConnection>
  readFile(id: string, path: string, options?: CallOptions): Promise<Download>
  writeFile(id: string, path: string, body: Readable | Uint8Array, options?: CallOptions): Promise<void>
}

/** A step of a build; `fraction` goes from 0 to 1 where it can be known. */
export interface BuildProgress {
  step: string
  fraction?: number
  detail?: string
}

export interface TemplatesClient {
  list(options?: CallOptions): Promise<Template[]>
  /** Resolves when the template is there; `onProgress` hears of what goes on until then. Giving up ends the build. */
  build(
    request?: z.input<typeof TemplateRequest>,
    options?: CallOptions & { onProgress?: (update: BuildProgress) => void },
  ): Promise<Template>
  /** Removes every size of it. */
  remove(name: string, options?: CallOptions): Promise<void>
}

/** Whose secret: the caller's own, or what the owner says. */
export interface SecretOwner {
  shared?: boolean
  userId?: string
}

export interface SecretsClient {
  /** Never with their values, which nothing answers with. */
  list(options?: CallOptions): Promise<SecretInfo[]>
  set(name: string, value: string, owner?: SecretOwner, options?: CallOptions): Promise<SecretInfo>
  remove(name: string, owner?: SecretOwner, options?: CallOptions): Promise<void>
  rotate(request?: { master?: boolean }, options?: CallOptions): Promise<RotateResult>
  /** Newest first. */
  audit(query?: { name?: string; before?: number; limit?: number }, options?: CallOptions): Promise<AuditEntry[]>
}

/** The REST API, typed. Every call rejects with the VivariumError the server answered with. */
export interface VivariumClient {
  readonly url: string
  tasks: TasksClient
  vms: MachinesClient
  templates: TemplatesClient
  users: {
    list(options?: CallOptions): Promise<User[]>
    create(name: string, options?: CallOptions): Promise<User>
    remove(id: string, options?: CallOptions): Promise<void>
  }
  keys: {
    list(options?: CallOptions): Promise<ApiKey[]>
    /** For the caller, or for `userId` where the caller is the owner. The key itself is shown only here. */
    create(request?: { label?: string; userId?: string }, options?: CallOptions): Promise<NewApiKey>
    remove(id: string, options?: CallOptions): Promise<void>
  }
  secrets: SecretsClient
  me(options?: CallOptions): Promise<Me>
  usage(
    query?: { by?: UsageGrouping; split?: UsageGrouping; since?: string; task?: string; limit?: number },
    options?: CallOptions,
  ): Promise<UsageRow[]>
  health(options?: CallOptions): Promise<Health>
  /** Rejects with the reason where the server can't run tasks. */
  ready(options?: CallOptions): Promise<Ready>
  version(options?: CallOptions): Promise<VersionInfo>
  /** What was made on the server's host and nobody owns any more; for the owner. */
  leaks(options?: CallOptions): Promise<Leak[]>
}
