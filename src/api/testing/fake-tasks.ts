import { EventEmitter, once } from 'node:events'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { VivariumError } from '../../contracts/errors.ts'
import { newId } from '../../contracts/ids.ts'
import type {
  FinalStatus,
  ForkRequest,
  QueuePlace,
  ResultFile,
  Task,
  TaskQuery,
  TaskRequest,
  TaskStatus,
  Upload,
} from '../../contracts/task.ts'
import { isFinal, TaskRequest as TaskRequestSchema } from '../../contracts/task.ts'
import { NO_TOKENS } from '../../contracts/usage.ts'
import type { EventLog } from '../../events/types.ts'
import type { TaskOutline, Tasks } from '../../tasks/types.ts'

/** Tasks that do what the test says: nothing runs. */
export class FakeTasks implements Tasks {
  readonly cancelled: string[] = []
  readonly requests: TaskRequest[] = []
  readonly uploads: Buffer[] = []
  /** How new tasks stand in the queue. */
  place: QueuePlace | null = null
  /** The next submits are refused with these. */
  readonly refusals: VivariumError[] = []
  /** What each task changed, where a test says so. */
  readonly patches = new Map<string, string>()
  readonly #tasks = new Map<string, Task>()
  readonly #files = new Map<string, Buffer>()
  readonly #keys = new Map<string, string>()
  readonly #changed = new EventEmitter().setMaxListeners(0)
  readonly #log: EventLog

  constructor(log: EventLog) {
    this.#log = log
  }

  async submit(userId: string, request: TaskRequest, options: { idempotencyKey?: string } = {}): Promise<Task> {
    const known = this.#keys.get(options.idempotencyKey ?? '')
    if (known !== undefined) return this.get(userId, known)
    const refusal = this.refusals.shift()
    if (refusal !== undefined) throw refusal
    this.requests.push(request)
    const task = { ...blankTask(newId('t'), userId, request), queue: this.place }
    this.#tasks.set(task.id, task)
    if (options.idempotencyKey !== undefined) this.#keys.set(options.idempotencyKey, task.id)
    await this.status(task.id, 'queued')
    this.#changed.emit('submit')
    return task
  }

  async fork(userId: string, id: string, { count, ...request }: ForkRequest): Promise<Task[]> {
    const { status, agent } = await this.get(userId, id)
    if (!isFinal(status)) throw new VivariumError('conflict', 'The task still runs; wait for its end.')
    const attempt = TaskRequestSchema.parse({ ...request, agent, continues: id, fork: true })
    return Promise.all(Array.from({ length: count }, () => this.submit(userId, attempt)))
  }

  /** Resolves with the newest task once there is one. */
  async submitted(): Promise<Task> {
    for (;;) {
      const task = [...this.#tasks.values()].at(-1)
      if (task !== undefined) return task
      await once(this.#changed, 'submit')
    }
  }

  /** Resolves once somebody has cancelled the task. */
  async cancellation(id: string): Promise<void> {
    while (!this.cancelled.includes(id)) await once(this.#changed, 'cancel')
  }

  async status(id: string, status: TaskStatus, change: Partial<Task> = {}): Promise<void> {
    const task = this.#tasks.get(id)
    if (task !== undefined) this.#tasks.set(id, { ...task, ...change, status })
    await this.#log.append(id, [{ type: 'status', status }])
  }

  async finish(id: string, status: FinalStatus = 'succeeded', change: Partial<Task> = {}): Promise<void> {
    await this.status(id, status, { finishedAt: new Date().toISOString(), exitCode: 0, ...change })
  }

  addFile(id: string, path: string, content: Buffer, mimeType: string): void {
    const task = this.#tasks.get(id)
    if (task === undefined) throw new Error(`no task ${id}`)
    this.#tasks.set(id, { ...task, files: [...task.files, { path, size: content.length, mimeType }] })
    this.#files.set(`${id}/${path}`, content)
  }

  async upload(_userId: string, tar: Readable): Promise<Upload> {
    const content = await buffer(tar)
    this.uploads.push(content)
    return { id: newId('w'), size: content.length }
  }

  async get(userId: string, id: string): Promise<Task> {
    const task = this.#tasks.get(id)
    if (task?.userId !== userId) throw new VivariumError('not_found', `There is no task ${id}.`)
    return task
  }

  async outline(userId: string, id: string): Promise<TaskOutline> {
    return this.get(userId, id)
  }

  async list(userId: string, query: TaskQuery): Promise<{ items: Task[] }> {
    const mine = [...this.#tasks.values()].filter(
      (task) =>
        task.userId === userId &&
        (query.status === undefined || task.status === query.status) &&
        (query.continues === undefined || task.continues === query.continues),
    )
    return { items: mine.toReversed() }
  }

  async cancel(userId: string, id: string): Promise<Task> {
    const task = await this.get(userId, id)
    if (!isFinal(task.status)) await this.finish(id, 'cancelled', { exitCode: null })
    this.cancelled.push(id)
    this.#changed.emit('cancel')
    return this.get(userId, id)
  }

  async cancelAll(userId: string): Promise<void> {
    for (const task of this.#tasks.values()) if (task.userId === userId) await this.cancel(userId, task.id)
  }

  async remove(userId: string, id: string): Promise<void> {
    const task = await this.get(userId, id)
    if (!isFinal(task.status)) throw new VivariumError('conflict', 'The task still runs; cancel it first.')
    this.#tasks.delete(id)
  }

  async wait(userId: string, id: string): Promise<Task> {
    return this.get(userId, id)
  }

  async file(
    userId: string,
    id: string,
    path: string,
    range?: { start: number; end: number },
  ): Promise<{ file: ResultFile; body: Readable }> {
    const file = (await this.get(userId, id)).files.find((candidate) => candidate.path === path)
    const content = this.#files.get(`${id}/${path}`)
    if (file === undefined || content === undefined) throw new VivariumError('not_found', `There is no file "${path}".`)
    return { file, body: Readable.from([range === undefined ? content : content.subarray(range.start, range.end + 1)]) }
  }

  async patch(userId: string, id: string): Promise<Readable> {
    await this.get(userId, id)
    return Readable.from([Buffer.from(this.patches.get(id) ?? 'diff --git a/a b/a\n')])
  }

  async archive(userId: string, id: string): Promise<Readable> {
    await this.get(userId, id)
    return Readable.from([Buffer.from([0x1f, 0x8b])])
  }

  activeCount(): number {
    return [...this.#tasks.values()].filter((task) => !isFinal(task.status)).length
  }

  async claims() {
    return { inUse: new Set<string>(), givenBack: new Map<string, string>() }
  }

  async recover(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}

function blankTask(id: string, userId: string, request: TaskRequest): Task {
  return {
    id,
    userId,
    status: 'queued',
    prompt: request.prompt,
    agent: request.agent,
    model: request.model ?? null,
    priority: request.priority,
    memoryMib: request.memoryMib,
    vcpus: request.vcpus,
    timeoutSeconds: request.timeoutSeconds,
    maxTurns: request.maxTurns ?? null,
    maxCostUsd: request.maxCostUsd ?? null,
    repo: request.repo ?? null,
    network: request.network ?? null,
    metadata: request.metadata ?? {},
    createdAt: new Date().toISOString(),
    startedAt: null,
    finishedAt: null,
    waitingUntil: null,
    vmId: null,
    exitCode: null,
    error: null,
    result: null,
    costUsd: 0,
    usage: NO_TOKENS,
    turns: 0,
    files: [],
    hasPatch: false,
    phases: [],
    template: request.template ?? null,
    continues: request.continues ?? null,
    fork: request.fork ?? false,
    sessionId: null,
    after: request.after ?? [],
    requeue: request.requeue ?? false,
    attempts: 0,
    queue: null,
  }
}
