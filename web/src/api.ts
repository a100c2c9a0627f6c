import type { ErrorCode, Problem } from '../../src/contracts/errors.ts'
import type { ExecResponse, MachineInfo } from '../../src/contracts/machine.ts'
import type { ForkRequest, Task, TaskList, TaskRequestInput, TaskStatus } from '../../src/contracts/task.ts'
import type { TemplateList } from '../../src/contracts/template.ts'
import type { UsageGrouping, UsageRow } from '../../src/contracts/usage.ts'
import type { AuditEntry, SecretInfo, SecretRequest } from '../../src/contracts/secret.ts'
import type { Me } from '../../src/contracts/server.ts'

const ROOT = '/api/v1'

/** A refused or failed request. `message` is the server's sentence; `status` is 0 where no server answered. */
export class ApiError extends Error {
  readonly status: number
  readonly code: ErrorCode | undefined
  /** The input field at fault, as a dotted path. */
  readonly field: string | undefined

  constructor(status: number, message: string, problem?: Partial<Problem>) {
    super(message)
    this.status = status
    this.code = problem?.code
    this.field = problem?.field
  }
}

async function refusal(response: Response): Promise<ApiError> {
  const isJson = response.headers.get('content-type')?.includes('json') ?? false
  // A proxy between us and the server may answer with anything.
  const problem = isJson ? ((await response.json().catch(() => ({}))) as Partial<Problem>) : {}
  return new ApiError(response.status, problem.detail ?? `The server answered ${response.status}.`, problem)
}

async function request(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const sends = body !== undefined
  const response = await fetch(`${ROOT}${path}`, {
    method,
    headers: sends ? { 'content-type': 'application/json' } : {},
    ...(sends ? { body: JSON.stringify(body) } : {}),
    ...(signal ? { signal } : {}),
  }).catch((error: unknown) => {
    if (signal?.aborted) throw error
    throw new ApiError(0, 'The server cannot be reached.')
  })
  if (!response.ok) throw await refusal(response)
  return response
}

/** The server is ours and checked its own answer against the same contract, so the shape is taken on trust. */
async function json<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const response = await request(method, path, body, signal)
  return (await response.json()) as T
}

function query(values: Record<string, string | undefined>): string {
  const given = Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`
}

const segment = encodeURIComponent

/** Calls of the REST API. All reject with an ApiError. */
export const api = {
  me: (signal?: AbortSignal) => json<Me>('GET', '/me', undefined, signal),
  login: (key: string) => request('POST', '/session', { key }),
  logout: () => request('DELETE', '/session'),

  tasks: (page: { status?: TaskStatus | undefined; cursor?: string | undefined }, signal?: AbortSignal) =>
    json<TaskList>('GET', `/tasks${query({ ...page, limit: '50' })}`, undefined, signal),
  task: (id: string, signal?: AbortSignal) => json<Task>('GET', `/tasks/${segment(id)}`, undefined, signal),
  submit: (task: TaskRequestInput) => json<Task>('POST', '/tasks', task),
  fork: (id: string, fork: ForkRequest) => json<TaskList>('POST', `/tasks/${segment(id)}/fork`, fork),
  /** Follow-ups and forks of a task, newest first. */
  continuations: (id: string, signal?: AbortSignal) =>
    json<TaskList>('GET', `/tasks${query({ continues: id, limit: '200' })}`, undefined, signal),
  cancel: (id: string) => request('POST', `/tasks/${segment(id)}/cancel`, {}),
  remove: (id: string) => request('DELETE', `/tasks/${segment(id)}`),
  patch: async (id: string, signal?: AbortSignal) =>
    (await request('GET', taskPath(id, 'patch'), undefined, signal)).text(),

  machines: (signal?: AbortSignal) => json<{ items: MachineInfo[] }>('GET', '/vms', undefined, signal),
  createMachine: (size: { memoryMib: number; vcpus: number }) => json<MachineInfo>('POST', '/vms', size),
  suspendMachine: (id: string) => json<MachineInfo>('POST', `/vms/${segment(id)}/suspend`, {}),
  resumeMachine: (id: string) => json<MachineInfo>('POST', `/vms/${segment(id)}/resume`, {}),
  destroyMachine: (id: string) => request('DELETE', `/vms/${segment(id)}`),
  exec: (id: string, command: string) => json<ExecResponse>('POST', `/vms/${segment(id)}/exec`, { command }),

  templates: (signal?: AbortSignal) => json<TemplateList>('GET', '/templates', undefined, signal),

  secrets: (signal?: AbortSignal) => json<{ items: SecretInfo[] }>('GET', '/secrets', undefined, signal),
  setSecret: (name: string, secret: SecretRequest) => request('PUT', `/secrets/${segment(name)}`, secret),
  removeSecret: ({ name, userId }: SecretInfo, ownId: string) => {
    const whose = userId === null ? { shared: 'true' } : { userId: userId === ownId ? undefined : userId }
    return request('DELETE', `/secrets/${segment(name)}${query(whose)}`)
  },
  rotateSecrets: (master: boolean) => request('POST', '/secrets/rotate', { master }),
  secretAudit: (signal?: AbortSignal) => json<{ items: AuditEntry[] }>('GET', '/secrets/audit', undefined, signal),

  usage: (by: UsageGrouping, split?: UsageGrouping, signal?: AbortSignal) =>
    json<{ items: UsageRow[] }>('GET', `/usage${query({ by, split })}`, undefined, signal),
}

function taskPath(id: string, rest: string): string {
  return `/tasks/${segment(id)}/${rest}`
}

/** Address of one result file; every segment of its path is encoded by itself. */
export function fileUrl(taskId: string, path: string): string {
  return ROOT + taskPath(taskId, `files/${path.split('/').map(segment).join('/')}`)
}

/** Address of all result files as a tar.gz. */
export function archiveUrl(taskId: string): string {
  return ROOT + taskPath(taskId, 'archive')
}

/** Address of the usage as CSV. */
export function usageCsvUrl(by: UsageGrouping): string {
  return `${ROOT}/usage${query({ by, format: 'csv' })}`
}

/** Address of a task's changes as a git patch. */
export function patchUrl(taskId: string): string {
  return ROOT + taskPath(taskId, 'patch')
}

/** Address of a task's event stream from `from` on. */
export function streamUrl(taskId: string, from: number): string {
  const url = new URL(`${ROOT}${taskPath(taskId, 'stream')}?from=${from}`, window.location.href)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  return url.href
}
