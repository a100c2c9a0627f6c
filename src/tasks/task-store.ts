import type { Kysely, Selectable, Transaction, Updateable } from 'kysely'
import type { Failure } from '../contracts/errors.ts'
import { VivariumError } from '../contracts/errors.ts'
import type { RemovedParts } from '../contracts/removed.ts'
import type { Phase, ResultFile, Task, TaskQuery, TaskRequest } from '../contracts/task.ts'
import { AgentName, FINAL_STATUSES, Priority, TaskStatus } from '../contracts/task.ts'
import type { Database } from '../store/database.ts'
import type { Storage } from '../store/types.ts'
import { decodeCursor, encodeCursor } from './cursor.ts'
import type { TaskOutline } from './types.ts'

/** A request as its row keeps it: the contents of `files` wait in blobs, in the order of these paths. */
export type StoredRequest = Omit<TaskRequest, 'files'> & { files: string[] }

type Tables = Database extends Kysely<infer All extends { tasks: unknown }> ? All : never
type TasksTable = Tables['tasks']
type TaskRow = Selectable<TasksTable>
export type TaskChange = Omit<Updateable<TasksTable>, 'id' | 'userId' | 'createdAt' | 'requestJson'>

/** A task before it has run. */
export interface NewTask {
  id: string
  userId: string
  request: StoredRequest
  idempotencyKey: string | null
  requestHash: string
  createdAt: string
}

/** A task that another goes on from, as its follow-up needs it. */
export interface Origin {
  id: string
  status: TaskStatus
  request: StoredRequest
  sessionId: string | null
  /** Whether its workspace and conversation are stored. */
  hasState: boolean
  removed: RemovedParts
}

/** A task that is not final, as an orchestrator finds it at its start. */
export interface UnfinishedTask {
  id: string
  userId: string
  status: TaskStatus
  request: StoredRequest
  createdAt: string
  /** How often it was started. */
  attempts: number
  /** Somebody has asked for its end. */
  isCancelled: boolean
  vmId: string | null
  phases: Phase[]
}

/** Result files shown with each task of a list; one task alone comes with all of its. */
const FILES_IN_LIST = 100
/** Characters of prompt and result in a list. */
const TEXT_IN_LIST = 4000

/** Files are stored so many rows at a time: SQLite caps the parameters of a statement. */
const ROWS_AT_ONCE = 500

/** A row before its task was started. */
const NOT_STARTED = {
  status: 'queued',
  startedAt: null,
  waitingUntil: null,
  vmId: null,
  exitCode: null,
  result: null,
  errorJson: null,
  turns: 0,
  phasesJson: '[]',
  patchBytes: null,
  sessionId: null,
  hasState: 0,
} satisfies TaskChange

/** The rows of tasks and of their result files. */
export class TaskStore {
  readonly #database: Database
  readonly #storage: Pick<Storage, 'persist'>

  /** What becomes of tasks that run is written with the patience of `storage`; new ones are refused when they can't be stored. */
  constructor(database: Database, storage: Pick<Storage, 'persist'>) {
    this.#database = database
    this.#storage = storage
  }

  /** Stores queued tasks, all or none, and takes their uploads; false when the first one's idempotency key was taken in the meantime. */
  async insert(tasks: NewTask[]): Promise<boolean> {
    return this.#database.transaction().execute(async (trx) => {
      for (const task of tasks) if (!(await insertOne(trx, task))) return false
      return true
    })
  }

  async update(id: string, change: TaskChange): Promise<void> {
    await this.#storage.persist(() => this.#database.updateTable('tasks').set(change).where('id', '=', id).execute())
  }

  /** A task of `userId` with its files; `not_found` where there is none. */
  async get(userId: string, id: string): Promise<Task> {
    const row = await this.#database
      .selectFrom('tasks')
      .selectAll()
      .where('id', '=', id)
      .where('userId', '=', userId)
      .executeTakeFirst()
    if (row === undefined) throw noTask(id)
    return toTask(row, await this.files(id))
  }

  /** The outline of a task of `userId`'s; `not_found` where there is none. */
  async require(userId: string, id: string): Promise<TaskOutline> {
    const row = await this.#database
      .selectFrom('tasks')
      .select(['status', 'removedJson'])
      .where('id', '=', id)
      .where('userId', '=', userId)
      .executeTakeFirst()
    if (row === undefined) throw noTask(id)
    return { id, status: TaskStatus.parse(row.status), removed: JSON.parse(row.removedJson) as RemovedParts }
  }

  /** A task of `userId` to go on from; `not_found` where there is none. */
  async origin(userId: string, id: string): Promise<Origin> {
    const row = await this.#database
      .selectFrom('tasks')
      .select(['id', 'status', 'requestJson', 'sessionId', 'hasState', 'removedJson'])
      .where('id', '=', id)
      .where('userId', '=', userId)
      .executeTakeFirst()
    if (row === undefined) throw new VivariumError('not_found', `There is no task ${id}.`, { field: 'continues' })
    return {
      id,
      status: TaskStatus.parse(row.status),
      request: JSON.parse(row.requestJson) as StoredRequest,
      sessionId: row.sessionId,
      hasState: row.hasState === 1,
      removed: JSON.parse(row.removedJson) as RemovedParts,
    }
  }

  /** The id and request hash of the task that a user sent with this key before. */
  async findByKey(userId: string, idempotencyKey: string): Promise<{ id: string; requestHash: string } | undefined> {
    return this.#database
      .selectFrom('tasks')
      .select(['id', 'requestHash'])
      .where('userId', '=', userId)
      .where('idempotencyKey', '=', idempotencyKey)
      .executeTakeFirst()
  }

  async list(userId: string, query: TaskQuery): Promise<{ items: Task[]; nextCursor?: string }> {
    let select = this.#database.selectFrom('tasks').selectAll().where('userId', '=', userId)
    if (query.status !== undefined) select = select.where('status', '=', query.status)
    if (query.continues !== undefined) select = select.where('continues', '=', query.continues)
    if (query.cursor !== undefined) {
      const { createdAt, id } = decodeCursor(query.cursor)
      select = select.where((where) =>
        where.or([
          where('createdAt', '<', createdAt),
          where.and([where('createdAt', '=', createdAt), where('id', '<', id)]),
        ]),
      )
    }
    const rows = await select
      .orderBy('createdAt', 'desc')
      .orderBy('id', 'desc')
      .limit(query.limit + 1)
      .execute()
    const page = rows.slice(0, query.limit)
    const items: Task[] = []
    for (const row of page) items.push(excerpt(toTask(row, await this.files(row.id, FILES_IN_LIST))))
    const last = page.at(-1)
    return rows.length > query.limit && last !== undefined ? { items, nextCursor: encodeCursor(last) } : { items }
  }

  async files(taskId: string, limit = Number.MAX_SAFE_INTEGER): Promise<ResultFile[]> {
    return this.#database
      .selectFrom('resultFiles')
      .select(['path', 'size', 'mimeType'])
      .where('taskId', '=', taskId)
      .orderBy('path')
      .limit(limit)
      .execute()
  }

  async file(taskId: string, path: string): Promise<ResultFile | undefined> {
    return this.#database
      .selectFrom('resultFiles')
      .select(['path', 'size', 'mimeType'])
      .where('taskId', '=', taskId)
      .where('path', '=', path)
      .executeTakeFirst()
  }

  /** Replaces the result files of a task. */
  async setFiles(taskId: string, files: ResultFile[]): Promise<void> {
    const replace = async (trx: Transaction<Tables>) => {
      await trx.deleteFrom('resultFiles').where('taskId', '=', taskId).execute()
      for (let start = 0; start < files.length; start += ROWS_AT_ONCE) {
        const rows = files.slice(start, start + ROWS_AT_ONCE).map((file) => ({ taskId, ...file }))
        await trx.insertInto('resultFiles').values(rows).execute()
      }
    }
    await this.#storage.persist(() => this.#database.transaction().execute(replace))
  }

  /** The statuses of those tasks of `userId` that are there. */
  async statuses(userId: string, ids: readonly string[]): Promise<Map<string, TaskStatus>> {
    const rows = await this.#database
      .selectFrom('tasks')
      .select(['id', 'status'])
      .where('id', 'in', ids)
      .where('userId', '=', userId)
      .execute()
    return new Map(rows.map(({ id, status }) => [id, TaskStatus.parse(status)]))
  }

  /** A task that was started so often waits again, and nothing is left of its last attempt. */
  async startOver(id: string, attempts: number): Promise<void> {
    const clear = async (trx: Transaction<Tables>) => {
      await trx.deleteFrom('resultFiles').where('taskId', '=', id).execute()
      await trx.deleteFrom('runs').where('taskId', '=', id).execute()
      await trx.deleteFrom('checkpoints').where('taskId', '=', id).execute()
      await trx
        .updateTable('tasks')
        .set({ ...NOT_STARTED, attempts })
        .where('id', '=', id)
        .execute()
    }
    await this.#storage.persist(() => this.#database.transaction().execute(clear))
  }

  /** Every task that is not final, oldest first: what a previous orchestrator left. */
  async unfinished(): Promise<UnfinishedTask[]> {
    const rows = await this.#database
      .selectFrom('tasks')
      .select(['id', 'userId', 'status', 'requestJson', 'createdAt', 'attempts', 'isCancelled', 'vmId', 'phasesJson'])
      .where('status', 'not in', [...FINAL_STATUSES])
      .orderBy('createdAt')
      .orderBy('id')
      .execute()
    return rows.map(({ requestJson, phasesJson, status, isCancelled, ...row }) => ({
      ...row,
      isCancelled: isCancelled === 1,
      status: TaskStatus.parse(status),
      request: JSON.parse(requestJson) as StoredRequest,
      phases: JSON.parse(phasesJson) as Phase[],
    }))
  }
}

async function insertOne(trx: Transaction<Tables>, task: NewTask): Promise<boolean> {
  const { request, ...row } = task
  const inserted = await trx
    .insertInto('tasks')
    .values({
      ...row,
      ...NOT_STARTED,
      priority: request.priority,
      requestJson: JSON.stringify(request),
      costUsd: 0,
      inputTokens: 0,
      outputTokens: 0,
      cacheReadTokens: 0,
      cacheWriteTokens: 0,
      continues: request.continues ?? null,
    })
    .onConflict((conflict) => conflict.columns(['userId', 'idempotencyKey']).doNothing())
    .executeTakeFirst()
  if (inserted.numInsertedOrUpdatedRows === 0n) return false
  if (request.uploadId !== undefined) {
    const { numDeletedRows } = await trx
      .deleteFrom('uploads')
      .where('id', '=', request.uploadId)
      .where('userId', '=', row.userId)
      .executeTakeFirst()
    if (numDeletedRows === 0n) {
      const message = `There is no upload ${request.uploadId}, or a task has taken it already. Send the workspace again.`
      throw new VivariumError('not_found', message, { field: 'uploadId' })
    }
  }
  return true
}

function noTask(id: string): VivariumError {
  return new VivariumError('not_found', `There is no task ${id}.`)
}

/** A task as lists show it: two hundred prompts of a megabyte each would be one answer too large. */
function excerpt(task: Task): Task {
  const cut = (text: string) => (text.length <= TEXT_IN_LIST ? text : `${text.slice(0, TEXT_IN_LIST)}…`)
  return { ...task, prompt: cut(task.prompt), result: task.result === null ? null : cut(task.result) }
}

/** How it stands in the queue is not in its row. */
function toTask(row: TaskRow, files: ResultFile[]): Task {
  const request = JSON.parse(row.requestJson) as StoredRequest
  const removed = JSON.parse(row.removedJson) as RemovedParts
  return {
    id: row.id,
    userId: row.userId,
    status: TaskStatus.parse(row.status),
    prompt: request.prompt,
    agent: AgentName.parse(request.agent),
    model: request.model ?? null,
    priority: Priority.parse(row.priority),
    memoryMib: request.memoryMib,
    vcpus: request.vcpus,
    timeoutSeconds: request.timeoutSeconds,
    maxTurns: request.maxTurns ?? null,
    maxCostUsd: request.maxCostUsd ?? null,
    repo: request.repo ?? null,
    network: request.network ?? null,
    metadata: request.metadata ?? {},
    createdAt: row.createdAt,
    startedAt: row.startedAt,
    finishedAt: row.finishedAt,
    waitingUntil: row.waitingUntil,
    vmId: row.vmId,
    exitCode: row.exitCode,
    error: row.errorJson === null ? null : (JSON.parse(row.errorJson) as Failure),
    result: row.result,
    costUsd: row.costUsd,
    usage: {
      inputTokens: row.inputTokens,
      outputTokens: row.outputTokens,
      cacheReadTokens: row.cacheReadTokens,
      cacheWriteTokens: row.cacheWriteTokens,
    },
    turns: row.turns,
    files,
    hasPatch: row.patchBytes !== null,
    phases: JSON.parse(row.phasesJson) as Phase[],
    template: request.template ?? null,
    continues: request.continues ?? null,
    fork: request.fork ?? false,
    sessionId: row.sessionId,
    after: request.after ?? [],
    requeue: request.requeue ?? false,
    attempts: row.attempts,
    queue: null,
    ...(Object.keys(removed).length > 0 && { removed }),
  }
}
