import type { Readable } from 'node:stream'
import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { ForkRequest, ResultFile, Task, TaskQuery, TaskRequest, Upload } from '../contracts/task.ts'
import { isFinal } from '../contracts/task.ts'
import { requirePart } from '../contracts/removed.ts'
import type { Claims } from '../machines/types.ts'
import type { TaskRemoval } from '../retention/types.ts'
import type { Database } from '../store/database.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { packResults } from './archive.ts'
import { Backpressure } from './backpressure.ts'
import { blobKeys } from './blob-keys.ts'
import { followUp, forkRequest } from './follow-up.ts'
import type { LifecycleServices } from './lifecycle.ts'
import { Lifecycle } from './lifecycle.ts'
import { RunJournal } from './run-journal.ts'
import { checkPrerequisites, checkRequest, requestHash } from './submission.ts'
import type { Origin, StoredRequest } from './task-store.ts'
import { TaskStore } from './task-store.ts'
import type { TaskOutline, Tasks } from './types.ts'
import { Uploads } from './uploads.ts'
import { pause } from './waiting.ts'

export interface TasksOptions extends Omit<LifecycleServices, 'store' | 'journal'> {
  database: Database
  removal: TaskRemoval
}

const SWEEP_MS = 10 * 60_000

/** Longer waits are asked for again. */
const MAX_WAIT_MS = 24 * 60 * 60_000

/** The tasks of one orchestrator. Call `recover` once before the first `submit`. */
export function createTasks(options: TasksOptions): Tasks {
  return new TaskService(options)
}

/** Tasks as their users see them; what happens to them is the lifecycle's. */
class TaskService implements Tasks {
  readonly #options: TasksOptions
  readonly #store: TaskStore
  readonly #journal: RunJournal
  readonly #uploads: Uploads
  readonly #lifecycle: Lifecycle
  readonly #backpressure: Backpressure
  readonly #sweeper: NodeJS.Timeout
  #isClosing = false

  constructor(options: TasksOptions) {
    const { database, blobs, settings } = options
    this.#options = options
    this.#store = new TaskStore(database, options.storage)
    this.#journal = new RunJournal(database, options.storage)
    this.#lifecycle = new Lifecycle({ ...options, store: this.#store, journal: this.#journal })
    this.#backpressure = new Backpressure({
      maxQueued: settings.maxQueued,
      queued: (userId) => this.#lifecycle.queued(userId),
      retryAfterSeconds: () => this.#lifecycle.secondsUntilPlace,
    })
    const limits = { maxBytes: settings.maxResultBytes, keepMs: settings.timings.uploadMs }
    this.#uploads = new Uploads(database, blobs, limits)
    this.#sweeper = setInterval(() => void this.#sweepUploads(), SWEEP_MS).unref()
  }

  async submit(userId: string, request: TaskRequest, options: { idempotencyKey?: string } = {}): Promise<Task> {
    const { agents, gateway, capacity, blobs } = this.#options
    const key = options.idempotencyKey ?? null
    const hash = requestHash(request)
    const known = await this.#submittedBefore(userId, key, hash)
    if (known !== undefined) return known
    using _ = this.#enter(userId, 1)
    await this.#refuseWithoutDisk()
    const resolved = await this.#resolve(userId, request)
    checkRequest(userId, resolved, { agent: agents[resolved.agent], gateway, capacity })

    const id = newId('t')
    await using undo = new AsyncDisposableStack()
    undo.defer(() => blobs.removeAll(blobKeys.inputs(id)))
    const stored = await this.#keepFiles(id, resolved)
    const createdAt = new Date().toISOString()
    const task = { id, userId, request: stored, createdAt }
    if (!(await this.#store.insert([{ ...task, idempotencyKey: key, requestHash: hash }]))) {
      const other = await this.#submittedBefore(userId, key, hash)
      if (other === undefined) throw new VivariumError('conflict', 'The same task was sent twice and removed since.')
      return other
    }
    undo.move()
    crashPoint('task stored')
    await this.#lifecycle.enqueue({ ...task, attempts: 0 })
    crashPoint('task queued')
    return this.get(userId, id)
  }

  async fork(userId: string, id: string, fork: ForkRequest): Promise<Task[]> {
    const { agents, gateway, capacity } = this.#options
    using _ = this.#enter(userId, fork.count)
    await this.#refuseWithoutDisk()
    const origin = await this.#store.origin(userId, id)
    const request = forkRequest(origin, fork)
    const resolved = await this.#resolve(userId, request)
    checkRequest(userId, resolved, { agent: agents[resolved.agent], gateway, capacity })
    await this.#suspendKept(origin)
    const createdAt = new Date().toISOString()
    const stored = { ...resolved, files: [] }
    const tasks = Array.from({ length: fork.count }, () => ({ id: newId('t'), userId, request: stored, createdAt }))
    const row = { idempotencyKey: null, requestHash: requestHash(request) }
    await this.#store.insert(tasks.map((task) => ({ ...task, ...row })))
    // One whose first event could not be stored has failed, which its row says; the others go on.
    await Promise.allSettled(tasks.map((task) => this.#lifecycle.enqueue({ ...task, attempts: 0 })))
    return Promise.all(tasks.map((task) => this.get(userId, task.id)))
  }

  async upload(userId: string, tar: Readable): Promise<Upload> {
    await this.#refuseWithoutDisk()
    return this.#uploads.add(userId, tar)
  }

  async get(userId: string, id: string): Promise<Task> {
    await this.#lifecycle.settled()
    const task = await this.#store.get(userId, id)
    return task.status === 'queued' ? { ...task, queue: this.#lifecycle.places([id]).get(id) ?? null } : task
  }

  async outline(userId: string, id: string): Promise<TaskOutline> {
    await this.#lifecycle.settled()
    return this.#store.require(userId, id)
  }

  async list(userId: string, query: TaskQuery): Promise<{ items: Task[]; nextCursor?: string }> {
    await this.#lifecycle.settled()
    const page = await this.#store.list(userId, query)
    const places = this.#lifecycle.places(page.items.map(({ id }) => id))
    return { ...page, items: page.items.map((task) => ({ ...task, queue: places.get(task.id) ?? null })) }
  }

  async cancel(userId: string, id: string): Promise<Task> {
    await this.#store.require(userId, id)
    await this.#lifecycle.cancel(id)
    return this.get(userId, id)
  }

  async cancelAll(userId: string): Promise<void> {
    const mine = (await this.#store.unfinished()).filter((task) => task.userId === userId)
    await Promise.all(mine.map((task) => this.#lifecycle.cancel(task.id)))
  }

  async remove(userId: string, id: string): Promise<void> {
    const { status } = await this.get(userId, id)
    if (!isFinal(status)) {
      throw new VivariumError('conflict', `The task ${id} is still ${status}: cancel it and wait for its end first.`)
    }
    await this.#options.removal.forget(id, { force: true })
  }

  async wait(userId: string, id: string, options: { timeoutMs?: number; signal?: AbortSignal } = {}): Promise<Task> {
    await this.#store.require(userId, id)
    const done = this.#lifecycle.done(id)
    if (done !== undefined) {
      const over = new AbortController()
      const signal = AbortSignal.any([over.signal, ...(options.signal === undefined ? [] : [options.signal])])
      await Promise.race([done, pause(Math.min(options.timeoutMs ?? MAX_WAIT_MS, MAX_WAIT_MS), signal)])
      over.abort()
      options.signal?.throwIfAborted()
    }
    return this.get(userId, id)
  }

  async file(
    userId: string,
    id: string,
    path: string,
    range?: { start: number; end: number },
  ): Promise<{ file: ResultFile; body: Readable }> {
    requirePart(await this.get(userId, id), 'files')
    const file = await this.#store.file(id, path)
    if (file === undefined) throw new VivariumError('not_found', `The task ${id} has no file ${path}.`)
    return { file, body: await this.#read(blobKeys.file(id, path), range) }
  }

  async patch(userId: string, id: string): Promise<Readable> {
    const task = await this.get(userId, id)
    requirePart(task, 'files')
    const { hasPatch } = task
    if (!hasPatch)
      throw new VivariumError('not_found', `The task ${id} has no patch: it began with an empty workspace.`)
    return this.#read(blobKeys.patch(id))
  }

  async archive(userId: string, id: string): Promise<Readable> {
    const task = await this.get(userId, id)
    requirePart(task, 'files')
    const { files } = task
    return packResults(id, files, this.#options.blobs)
  }

  activeCount(): number {
    return this.#lifecycle.activeCount
  }

  async claims(): Promise<Claims> {
    const inUse = new Set<string>()
    const givenBack = new Map<string, string>()
    await this.#journal.removeEnded()
    for (const task of await this.#store.unfinished()) {
      if (await this.#lifecycle.settle(task)) continue
      const run = await this.#journal.find(task.id)
      const { continues, fork } = task.request
      if (run !== undefined) inUse.add(run.machineId)
      else if (task.vmId !== null && continues !== undefined && fork !== true) givenBack.set(task.vmId, continues)
    }
    return { inUse, givenBack }
  }

  async recover(): Promise<void> {
    const kept = this.#options.machines.list().filter(({ keepUntil }) => keepUntil !== null)
    for (const info of kept) await this.#lifecycle.recoverKept(info)
    for (const task of await this.#store.unfinished()) await this.#lifecycle.recover(task)
    await this.#sweepUploads()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true
    clearInterval(this.#sweeper)
    await this.#lifecycle[Symbol.asyncDispose]()
  }

  async #submittedBefore(userId: string, key: string | null, hash: string): Promise<Task | undefined> {
    const known = key === null ? undefined : await this.#store.findByKey(userId, key)
    if (known === undefined) return undefined
    if (known.requestHash === hash) return this.get(userId, known.id)
    throw new VivariumError('conflict', 'This Idempotency-Key was used for a different request: take a new one.')
  }

  /** A request as it is stored: a follow-up takes over what it shares with the task before. */
  async #resolve(userId: string, asked: TaskRequest): Promise<TaskRequest> {
    const after = [...new Set(asked.after)]
    const request = after.length === 0 ? asked : { ...asked, after }
    const { continues, fork } = request
    if (after.length > 0) checkPrerequisites(after, await this.#store.statuses(userId, after))
    if (continues !== undefined) {
      const origin = await this.#store.origin(userId, continues)
      return followUp(origin, request, this.#lifecycle.kept.of(continues) !== undefined)
    }
    if (fork !== true) return request
    throw new VivariumError('invalid_request', 'A fork needs a task to branch off from: name it (continues).', {
      field: 'continues',
    })
  }

  /** A kept machine is copied while it is suspended, and takes no room from its copies then. */
  async #suspendKept({ id, hasState }: Origin): Promise<void> {
    const { kept } = this.#lifecycle
    const info = kept.of(id)
    try {
      if (info !== undefined) await kept.suspend(info.id)
    } catch (error) {
      if (!hasState) throw error // there is no other way
    }
  }

  #enter(userId: string, count: number): Disposable {
    if (this.#isClosing) throw new VivariumError('shutting_down', 'The server is shutting down: try again in a moment.')
    return this.#backpressure.enter(userId, count)
  }

  /** What could only be stored by half is refused whole; what runs already is held back instead. */
  async #refuseWithoutDisk(): Promise<void> {
    const problem = await this.#options.storage.problem()
    if (problem !== undefined) throw new VivariumError('storage_failed', problem)
  }

  /** Puts the contents of files aside; the row keeps their paths. */
  async #keepFiles(id: string, request: TaskRequest): Promise<StoredRequest> {
    const files = request.files ?? []
    for (const [n, file] of files.entries()) {
      await this.#options.blobs.put(blobKeys.input(id, n), Buffer.from(file.contentBase64, 'base64'))
    }
    return { ...request, files: files.map((file) => file.path) }
  }

  async #read(key: string, range?: { start: number; end: number }): Promise<Readable> {
    const body = await this.#options.blobs.get(key, range)
    if (body === undefined) throw new VivariumError('storage_failed', 'The bytes of this file are gone from the store.')
    return body
  }

  async #sweepUploads(): Promise<void> {
    try {
      await this.#uploads.sweep()
    } catch (error) {
      this.#options.log.warn({ err: error }, 'old uploads could not be removed')
    }
  }
}
