import { z } from 'zod'
import { Failure } from './errors.ts'
import { MachineId, TaskId, UploadId, UserId } from './ids.ts'
import { NetworkPolicy } from './network.ts'
import { WorkspacePath } from './paths.ts'
import { RemovedParts } from './removed.ts'
import { TemplateName } from './template.ts'
import { TokenUsage } from './usage.ts'

export const AgentName = z.enum(['claude-code', 'shell'])
export type AgentName = z.infer<typeof AgentName>

export const Priority = z.enum(['low', 'normal', 'high'])
export type Priority = z.infer<typeof Priority>

export const FINAL_STATUSES = ['succeeded', 'failed', 'cancelled', 'timed_out', 'over_budget', 'interrupted'] as const
export const TaskStatus = z.enum(['queued', 'starting', 'running', 'waiting', 'collecting', ...FINAL_STATUSES])
export type TaskStatus = z.infer<typeof TaskStatus>
export type FinalStatus = (typeof FINAL_STATUSES)[number]

/** Whether a task in this status will never change again. */
export function isFinal(status: TaskStatus): status is FinalStatus {
  return (FINAL_STATUSES as readonly TaskStatus[]).includes(status)
}

/** A file sent with the prompt; `path` is relative to the workspace. */
export const InputFile = z.object({ path: WorkspacePath, contentBase64: z.base64() })
export type InputFile = z.infer<typeof InputFile>

/** A repository cloned into the workspace before the agent starts. Only https: the guest has no keys and no other way out. */
export const Repo = z.object({
  url: z.url({ protocol: /^https?$/ }).max(2048),
  ref: z
    .string()
    .max(256)
    .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*$/, 'must be a branch, tag or commit')
    .optional(),
})
export type Repo = z.infer<typeof Repo>

const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

/** What `POST /tasks` takes. */
export const TaskRequest = z.strictObject({
  prompt: z.string().min(1, 'must not be empty').max(1_000_000),
  agent: AgentName.default('claude-code'),
  model: z
    .string()
    .min(1)
    .max(128)
    .regex(/^[A-Za-z0-9][\w.:@/[\]-]*$/, 'must be a model name')
    .optional(),
  /** MiB of guest memory. */
  memoryMib: z.int().min(512).max(1_048_576).default(2048),
  vcpus: z.int().min(1).max(64).default(2),
  /** Seconds in `running`; the user's own limit, so it does not scale with the engine. */
  timeoutSeconds: z.int().min(1).max(604_800).default(600),
  maxTurns: z.int().min(1).max(10_000).optional(),
  maxCostUsd: z.number().positive().max(100_000).optional(),
  priority: Priority.default('normal'),
  files: z.array(InputFile).max(1000).optional(),
  repo: Repo.optional(),
  /** A workspace sent before as a tar stream (`POST /uploads`); unpacked before `files` are written. */
  uploadId: UploadId.optional(),
  network: NetworkPolicy.optional(),
  env: z.record(z.string().regex(ENV_NAME), z.string().max(32_768)).optional(),
  metadata: z.record(z.string().max(64), z.string().max(1024)).optional(),
  /** Start from this template (`template.warm` in the settings) instead of the plain one. */
  template: TemplateName.optional(),
  /** Go on from this finished task of the same user: same workspace, same conversation. */
  continues: TaskId.optional(),
  /** With `continues`: branch off with a copy of workspace and conversation, and leave that task's own as they are. */
  fork: z.boolean().optional(),
  /** Keep the machine for so long after the task's end, for `exec`, `shell` and follow-ups. */
  keepVmSeconds: z.int().min(1).max(604_800).optional(),
  /** Start only when these tasks of the same user have succeeded; where one of them does not, this one ends without being started. */
  after: z.array(TaskId).max(100).optional(),
  /** Run again from the start when the machine or the server is lost, also where the first attempt may have had effects outside. */
  requeue: z.boolean().optional(),
})
export type TaskRequest = z.infer<typeof TaskRequest>
/** The same before defaults are filled in: what callers write. */
export type TaskRequestInput = z.input<typeof TaskRequest>

/** A file that came back. `path` is relative to the workspace. */
export const ResultFile = z.object({ path: z.string(), size: z.int().nonnegative(), mimeType: z.string() })
export type ResultFile = z.infer<typeof ResultFile>

/** How long one step of a start took, for people who ask where the time goes. */
export const Phase = z.object({ name: z.string(), ms: z.number().nonnegative() })
export type Phase = z.infer<typeof Phase>

/** How a task stands that waits to be started. */
export const QueuePlace = z.object({
  /** 1 is next, as things are now; null where it does not wait for its turn yet. */
  position: z.int().positive().nullable(),
  /** For people, e.g. `waiting for 2 GiB: 3 tasks ahead`. */
  reason: z.string(),
})
export type QueuePlace = z.infer<typeof QueuePlace>

/** A task as every interface shows it. Times are ISO 8601 in UTC. */
export const Task = z.object({
  id: TaskId,
  userId: UserId,
  status: TaskStatus,
  prompt: z.string(),
  agent: AgentName,
  model: z.string().nullable(),
  priority: Priority,
  memoryMib: z.int(),
  vcpus: z.int(),
  timeoutSeconds: z.int(),
  maxTurns: z.int().nullable(),
  maxCostUsd: z.number().nullable(),
  repo: Repo.nullable(),
  network: NetworkPolicy.nullable(),
  metadata: z.record(z.string(), z.string()),
  createdAt: z.iso.datetime(),
  startedAt: z.iso.datetime().nullable(),
  finishedAt: z.iso.datetime().nullable(),
  waitingUntil: z.iso.datetime().nullable(),
  vmId: MachineId.nullable(),
  exitCode: z.int().nullable(),
  error: Failure.nullable(),
  /** The agent's final text. */
  result: z.string().nullable(),
  costUsd: z.number().nonnegative(),
  usage: TokenUsage,
  turns: z.int().nonnegative(),
  files: z.array(ResultFile),
  /** Whether `GET /tasks/{id}/patch` has something to give. */
  hasPatch: z.boolean(),
  phases: z.array(Phase),
  template: TemplateName.nullable(),
  /** The task this one goes on from, and whether it branched off. */
  continues: TaskId.nullable(),
  fork: z.boolean(),
  /** The agent's name for the conversation; null before it has begun, and for agents that have none. */
  sessionId: z.string().nullable(),
  /** The tasks whose success it is to wait for. */
  after: z.array(TaskId),
  requeue: z.boolean(),
  /** How often it was started: more than once where machines failed that were none of its doing. */
  attempts: z.int().nonnegative(),
  /** Null unless it waits to be started. */
  queue: QueuePlace.nullable(),
  /** What retention has taken of it; absent where that is nothing. */
  removed: RemovedParts.optional(),
})
export type Task = z.infer<typeof Task>

/** The answer of `POST /uploads`. An upload that no task takes is removed after an hour. */
export const Upload = z.object({ id: UploadId, size: z.int().nonnegative() })
export type Upload = z.infer<typeof Upload>

export const TaskList = z.object({ items: z.array(Task), nextCursor: z.string().optional() })
export type TaskList = z.infer<typeof TaskList>

/** What `POST /tasks/{id}/fork` takes: so many attempts, each a task of its own. What is not named is as in the task forked from. */
export const ForkRequest = z.strictObject({
  prompt: z.string().min(1, 'must not be empty').max(1_000_000),
  count: z.int().min(1).max(20).default(2),
  model: TaskRequest.shape.model,
  timeoutSeconds: z.int().min(1).max(604_800).optional(),
  maxTurns: TaskRequest.shape.maxTurns,
  maxCostUsd: TaskRequest.shape.maxCostUsd,
})
export type ForkRequest = z.infer<typeof ForkRequest>

/** Query of `GET /tasks`. */
export const TaskQuery = z.object({
  status: TaskStatus.optional(),
  /** Only those that go on from this task. */
  continues: TaskId.optional(),
  limit: z.coerce.number().int().min(1).max(200).default(50),
  cursor: z.string().max(200).optional(),
})
export type TaskQuery = z.infer<typeof TaskQuery>
