import type { HttpBindings } from '@hono/node-server'
import type { VivariumError } from '../contracts/errors.ts'
import type { Leak, VersionInfo } from '../contracts/server.ts'
import type { User } from '../contracts/user.ts'
import type { EventLog } from '../events/types.ts'
import type { Usage } from '../gateway/types.ts'
import type { Identity } from '../identity/types.ts'
import type { MachineAccess, Templates } from '../machines/types.ts'
import type { Tasks } from '../tasks/types.ts'
import type { SecretKeeping } from '../vault/types.ts'

/** One number of `GET /metrics`. */
export interface Gauge {
  /** e.g. `vivarium_machines`. */
  name: string
  help: string
  value: number
  labels?: Record<string, string>
}

/** Files of the program, by name, e.g. `web/index.html`; undefined where there is none. */
export interface Assets {
  read(name: string): Uint8Array | undefined
}

/** Who calls MCP, and how to call the API on their behalf without a socket. */
export interface McpCaller {
  userId: string
  apiKey: string
  /** Origin under which the caller reached this server. */
  url: string
  fetch(request: Request): Response | Promise<Response>
}

/** MCP over HTTP: one request in, one response out. */
export type McpEndpoint = (request: Request, caller: McpCaller) => Promise<Response>

/** How far the server is on its way out. The reason of both signals is the error that says so to whoever asks. */
export interface Shutdown {
  /** Nothing new is begun any more. */
  draining: AbortSignal
  /** Nothing more will come in this process: who waits for something is to come back once the server is there again. */
  ending: AbortSignal
}

/** Everything the API serves; all of it is made elsewhere. */
export interface ApiServices {
  shutdown: Shutdown
  tasks: Tasks
  events: EventLog
  machines: MachineAccess
  templates: Pick<Templates, 'list' | 'build' | 'remove'>
  identity: Identity
  /** Without the calls that use a secret: what the API has not, it can't answer with. */
  vault: SecretKeeping
  usage: Usage
  assets: Assets
  mcp: McpEndpoint
  version(): Promise<VersionInfo>
  /** What nobody owns any more, on this host. */
  leaks(): Promise<Leak[]>
  /** Why no task can run right now, or undefined. */
  notReady(): Promise<string | undefined>
  /** Numbers for `GET /metrics`, besides what the API knows itself. */
  gauges(): Gauge[]
  /** Called with every error that is not the caller's doing, for the log. */
  onError(error: VivariumError, request: { method: string; path: string }): void
}

export interface ApiOptions {
  /** The address listened on: a name or an IP address. */
  listenHost: string
  /** Further names (`host` or `host:port`) by which clients may reach this server. */
  publicHosts: string[]
  version: string
  /** Between two signs of life on a quiet stream, in ms. */
  heartbeatMs: number
  /** The largest workspace taken by `POST /uploads`, and file by `PUT /vms/{id}/files`, in bytes. */
  maxUploadBytes: number
}

/** What handlers find in their context. */
export interface AppEnv {
  /** Absent when a request comes from inside the process. */
  Bindings: Partial<HttpBindings>
  Variables: { user: User; apiKey: string }
}
