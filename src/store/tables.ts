import type { Generated } from 'kysely'

/** Columns named `…Json` hold JSON text, `…At` hold ISO 8601 in UTC. Booleans are 0 and 1. Kysely turns camelCase into snake_case. */
export interface Tables {
  users: UsersTable
  apiKeys: ApiKeysTable
  tasks: TasksTable
  resultFiles: ResultFilesTable
  uploads: UploadsTable
  events: EventsTable
  checkpoints: CheckpointsTable
  runs: RunsTable
  machines: MachinesTable
  modelRequests: ModelRequestsTable
  usageRecords: UsageRecordsTable
  secrets: SecretsTable
  masterKey: MasterKeyTable
  audit: AuditTable
  removals: RemovalsTable
}

export interface UsersTable {
  id: string
  name: string
  /** 1 for the one user made at first start. */
  isOwner: number
  createdAt: string
}

export interface ApiKeysTable {
  id: string
  userId: string
  label: string
  /** First characters of the key, so that people can tell their keys apart. */
  prefix: string
  /** SHA-256 of the key in hex: keys have 160 random bits, so a slow hash would add nothing. */
  hash: string
  createdAt: string
  lastUsedAt: string | null
}

export interface TasksTable {
  id: string
  userId: string
  status: string
  /** The validated TaskRequest, without the contents of `files` (those wait in blobs under `inputs/<id>/`). */
  requestJson: string
  priority: string
  idempotencyKey: string | null
  /** SHA-256 of the request, to tell a repeated request from a different one with the same key. */
  requestHash: string
  createdAt: string
  startedAt: string | null
  finishedAt: string | null
  waitingUntil: string | null
  vmId: string | null
  exitCode: number | null
  /** A Failure, or null. */
  errorJson: string | null
  result: string | null
  costUsd: number
  inputTokens: number
  outputTokens: number
  cacheReadTokens: number
  cacheWriteTokens: number
  turns: number
  /** Array of Phase. */
  phasesJson: string
  /** Size of the patch in bytes, or null where there is none. */
  patchBytes: number | null
  /** The task this one goes on from; also in the request, here for queries. */
  continues: string | null
  /** The agent's name for the conversation. */
  sessionId: string | null
  /** 1 when the blobs hold what a follow-up on another machine needs: workspace and conversation. */
  hasState: Generated<number>
  /** How often it was started. */
  attempts: Generated<number>
  /** 1 once somebody has asked for its end. */
  isCancelled: Generated<number>
  /** RemovedParts. */
  removedJson: Generated<string>
  /** What its parts take on disk, measured once it is final. */
  filesBytes: number | null
  eventsBytes: number | null
  stateBytes: number | null
}

/** Removals that have begun: rows say so already, bytes are still to go. */
export interface RemovalsTable {
  taskId: string
  /** A TaskPart, or `task`. */
  part: 'files' | 'events' | 'state' | 'task'
}

export interface ResultFilesTable {
  taskId: string
  path: string
  size: number
  mimeType: string
}

export interface UploadsTable {
  id: string
  userId: string
  size: number
  createdAt: string
}

export interface EventsTable {
  taskId: string
  seq: number
  at: string
  type: string
  /** The event without its envelope; empty when the body is kept beside the log. */
  bodyJson: string
  /** Bytes of a body kept beside the log, or null. */
  payloadBytes: number | null
}

/** How far the source of a task's events has been read into its log: stored with the events, gone with the last one. */
export interface CheckpointsTable {
  taskId: string
  checkpointJson: string
}

/** The journal of runs: written before an agent is started, removed when its task is final. */
export interface RunsTable {
  taskId: string
  machineId: string
  /** The agent's process in the guest. */
  execId: string
  /** What of an AgentStart the request does not say. */
  startJson: string
  /** Until when the machine was to be kept already. */
  keepUntil: string | null
  /** Milliseconds of the task's time limit that were used when the clock was last set … */
  ranMs: number
  /** … which was then, and it has run since; null: it stands still. */
  clockAt: string | null
  /** When its machine, which is suspended, is to go on by itself; null: when somebody asks. */
  wakeAt: string | null
  /** How the agent ended, once it has: an Ending. */
  endingJson: string | null
  /** 1 when all that it has left was brought back. */
  collected: Generated<number>
}

/** The journal: every machine is written here before anything of it exists, and removed when nothing is left. */
export interface MachinesTable {
  id: string
  userId: string
  taskId: string | null
  engine: string
  memoryMib: number
  vcpus: number
  runDir: string
  diskDir: string
  uid: number | null
  pid: number | null
  /** Start time of `pid` in clock ticks since boot. */
  startTime: number | null
  createdAt: string
  /** `running`: its VMM may run. `suspended`: no process, its disk folder is all of it. */
  state: Generated<string>
  startedFrom: Generated<string>
  template: string | null
  /** What it was made with: it can't be started from its disk with anything else. An object of strings. */
  dependsOnJson: Generated<string>
  keepUntil: string | null
  /** The NetworkPolicy of a machine without a task. */
  networkJson: string | null
}

/**
 * The journal: every model request is written here before all of it is sent, and removed when `usageRecords` counts it. A row says
 * at any time what the request is counted as if nothing more is ever learnt of it.
 */
export interface ModelRequestsTable {
  id: string
  userId: string
  taskId: string | null
  machineId: string
  sessionId: string | null
  agentId: string | null
  startedAt: string
  requestBytes: number
  /** Most output tokens that it allows; null where it names none. */
  maxTokens: number | null
  model: string
  /** Tokens seen so far; estimated as long as the answer has not named them. */
  inputTokens: number
  outputTokens: number
  cacheReadTokens: number
  cacheWriteTokens: number
  /** Of the tokens above. Null where the model has no known price. */
  costUsd: number | null
  /** The most that it can have cost. */
  chargeUsd: number
  /** HTTP status of the answer; 0 as long as there is none. */
  status: number
}

export interface UsageRecordsTable {
  id: Generated<number>
  /** Which request of the journal it counts. Null in records of versions without one. */
  requestId: string | null
  userId: string
  taskId: string | null
  machineId: string
  model: string
  at: string
  inputTokens: number
  outputTokens: number
  cacheReadTokens: number
  cacheWriteTokens: number
  /** Null where the model has no known price. */
  costUsd: number | null
  /** What budgets are charged: the cost, something also where that is unknown, and the most it can be where nobody saw the end. */
  chargeUsd: Generated<number>
  status: number
  /** 0 when the answer was cut off, or never came. */
  complete: number
  /** The agent's names for the conversation and, of a subagent's request, the subagent. */
  sessionId: string | null
  agentId: string | null
}

export interface SecretsTable {
  id: Generated<number>
  /** Null is shared by all users. */
  userId: string | null
  name: string
  /** 1 at first, one more with each new value. */
  version: number
  /** The data key under the master key, and the value under the data key, as `vault/seal.ts` writes them. */
  dataKey: string
  value: string
  createdAt: string
  updatedAt: string
  lastUsedAt: string | null
}

/** One row, with the id 1: which master key the secrets are under. */
export interface MasterKeyTable {
  id: number
  /** Opens with the right master key only. */
  sealedCheck: string
  /** `systemd`, `environment` or `file`: where the key came from, for the sentence that misses it. */
  source: string
}

/** Who did what with which secret. Keeps no reference: the line outlives user, task and machine. */
export interface AuditTable {
  id: Generated<number>
  at: string
  /** An AuditAction. */
  action: string
  /** The secret's name, `*` for all. */
  name: string
  ownerId: string | null
  userId: string | null
  taskId: string | null
  machineId: string | null
  purpose: string
  count: number
}
