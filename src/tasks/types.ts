import type { Readable } from 'node:stream'
import type { Claims } from '../machines/types.ts'
import type { ForkRequest, ResultFile, Task, TaskQuery, TaskRequest, Upload } from '../contracts/task.ts'

export type TaskOutline = Pick<Task, 'id' | 'status' | 'removed'>

/** Everything that can be asked of tasks. All calls are scoped to `userId`: another user's task is `not_found`. */
export interface Tasks extends AsyncDisposable {
  /** Stores and queues a task. With an `idempotencyKey` seen before for this user: the same request gives the same task, another one `conflict`. */
  submit(userId: string, request: TaskRequest, options?: { idempotencyKey?: string }): Promise<Task>
  /**
   * Queues so many attempts at a prompt, each a task of its own that starts from a copy of this task's workspace and
   * conversation. Rejects with `conflict` unless the task is final.
   */
  fork(userId: string, id: string, request: ForkRequest): Promise<Task[]>
  /** Keeps a workspace (a tar stream, checked only when a task unpacks it in its guest) for the next `submit` that names it. */
  upload(userId: string, tar: Readable): Promise<Upload>
  get(userId: string, id: string): Promise<Task>
  /** What `get` has for these fields, without the rest, which may be long. */
  outline(userId: string, id: string): Promise<TaskOutline>
  /** Newest first. Long prompts and results are cut, and of many files only the first are named: `get` has all of it. */
  list(userId: string, query: TaskQuery): Promise<{ items: Task[]; nextCursor?: string }>
  /**
   * Stops it; files are still collected. A task that is final, or whose agent is done and whose files are being collected, is
   * left as it is: its work counts. Resolves when the request is recorded, with the task.
   */
  cancel(userId: string, id: string): Promise<Task>
  /** Stops every task of a user that is not final, as `cancel` does. */
  cancelAll(userId: string): Promise<void>
  /** Forgets a finished task, its events and files; `conflict` while it runs. */
  remove(userId: string, id: string): Promise<void>
  /** Resolves with the task once it is final, or as it is when `timeoutMs` is over. */
  wait(userId: string, id: string, options?: { timeoutMs?: number; signal?: AbortSignal }): Promise<Task>
  /** One result file. */
  file(
    userId: string,
    id: string,
    path: string,
    range?: { start: number; end: number },
  ): Promise<{ file: ResultFile; body: Readable }>
  /** The changes as a git patch; `not_found` where there is none. */
  patch(userId: string, id: string): Promise<Readable>
  /** All result files as a gzipped tar stream. */
  archive(userId: string, id: string): Promise<Readable>
  /** Number of tasks that are not final. */
  activeCount(): number
  /** What a previous orchestrator's tasks need of its machines; call it once, before machines are taken up. */
  claims(): Promise<Claims>
  /**
   * Takes up what a previous orchestrator left, once its machines are: queued tasks are queued again, those whose agent was started go on, and
   * those whose machine is gone become `interrupted`.
   */
  recover(): Promise<void>
}
