import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { Agent } from '../../agents/types.ts'
import type { Blobs } from '../../blobs/types.ts'
import { VivariumError } from '../../contracts/errors.ts'
import type { NewEvent, TaskEvent } from '../../contracts/event.ts'
import type { AgentName } from '../../contracts/task.ts'
import { isFinal, TaskRequest } from '../../contracts/task.ts'
import type { TaskRequestInput } from '../../contracts/task.ts'
import { NO_TOKENS } from '../../contracts/usage.ts'
import type {
  Checkpoint,
  EventJson,
  EventLog,
  EventWriter,
  OpenEventWriter,
  StatusEvent,
  UsageEvent,
} from '../../events/types.ts'
import type { EgressContext, EgressSession, Gateway, ModelUsage } from '../../gateway/types.ts'
import { createCapacity } from '../../machines/capacity.ts'
import type { CapacityLimits } from '../../machines/types.ts'
import type { TaskRemoval } from '../../retention/types.ts'
import type { Database } from '../../store/database.ts'
import { SOUND_STORAGE } from '../../store/testing/sound-storage.ts'
import type { Storage } from '../../store/types.ts'
import type { Logger } from '../../telemetry/types.ts'
import type { TaskSettings } from '../settings.ts'
import { createTasks } from '../tasks.ts'
import { FakeMachines, FakePool } from './fake-machines.ts'

/** Blobs in memory. */
export class FakeBlobs implements Blobs {
  readonly bytes = new Map<string, Buffer>()

  async put(key: string, body: Readable | Buffer, { maxBytes = Infinity } = {}): Promise<number> {
    const content = Buffer.isBuffer(body) ? body : await buffer(body)
    if (content.length > maxBytes) throw new VivariumError('too_large', 'too large')
    this.bytes.set(key, content)
    return content.length
  }

  async get(key: string, range?: { start: number; end: number }): Promise<Readable | undefined> {
    const content = this.bytes.get(key)
    return content && Readable.from([range === undefined ? content : content.subarray(range.start, range.end + 1)])
  }

  async size(key: string): Promise<number | undefined> {
    return this.bytes.get(key)?.length
  }

  async remove(key: string): Promise<void> {
    this.bytes.delete(key)
  }

  async usage(prefix: string): Promise<number> {
    return [...this.bytes].reduce((sum, [key, { length }]) => (key.startsWith(prefix) ? sum + length : sum), 0)
  }

  async folders(prefix: string): Promise<{ name: string; modifiedAt: string }[]> {
    const below = [...this.bytes.keys()].filter((key) => key.startsWith(prefix))
    const names = new Set(below.map((key) => key.slice(prefix.length).split('/')[0] ?? ''))
    return [...names].map((name) => ({ name, modifiedAt: new Date(0).toISOString() }))
  }

  async removeAll(prefix: string): Promise<void> {
    for (const key of this.bytes.keys()) if (key.startsWith(prefix)) this.bytes.delete(key)
  }
}

/** An event log in memory. */
class FakeEvents implements EventLog {
  readonly log: Map<string, TaskEvent[]>
  readonly checkpoints: Map<string, Checkpoint>
  /** Its orchestrator was killed: nothing that it still wants to store is ever stored. */
  isKilled = false
  /** Set to make every append fail. */
  failure: Error | undefined
  /** Called with each event once it is stored. */
  onEvent: (event: TaskEvent) => void = () => {}

  constructor(before?: FakeEvents) {
    this.log = before?.log ?? new Map()
    this.checkpoints = before?.checkpoints ?? new Map()
  }

  async append(taskId: string, events: NewEvent[], checkpoint?: Checkpoint): Promise<number> {
    if (this.isKilled) await new Promise(() => {})
    if (this.failure !== undefined) throw this.failure
    if (checkpoint !== undefined) this.checkpoints.set(taskId, checkpoint)
    const log = this.log.get(taskId) ?? []
    this.log.set(taskId, log)
    for (const event of events) {
      const stored = { ...event, seq: log.length + 1, taskId, at: new Date().toISOString() }
      log.push(stored)
      this.onEvent(stored)
    }
    return log.length
  }

  async checkpoint(taskId: string): Promise<Checkpoint | undefined> {
    return this.checkpoints.get(taskId)
  }

  async usage(taskId: string): Promise<UsageEvent[]> {
    return (this.log.get(taskId) ?? []).filter((event) => event.type === 'usage')
  }

  async ending(taskId: string): Promise<StatusEvent | undefined> {
    const last = this.log.get(taskId)?.findLast((event) => event.type === 'status')
    return last !== undefined && isFinal(last.status) ? last : undefined
  }

  async read(taskId: string, from: number, limit: number): Promise<TaskEvent[]> {
    return (this.log.get(taskId) ?? []).slice(from - 1, from - 1 + limit)
  }

  follow(): AsyncIterable<TaskEvent> {
    throw new Error('not played')
  }

  followJson(): AsyncIterable<EventJson> {
    throw new Error('not played')
  }

  async remove(taskId: string): Promise<void> {
    this.log.delete(taskId)
  }

  writer(taskId: string, onStored: (checkpoint: Checkpoint) => void): EventWriter {
    return {
      write: async (events, checkpoint) => {
        await this.append(taskId, events, checkpoint)
        if (checkpoint !== undefined) onStored(checkpoint)
      },
      flush: async () => {},
      [Symbol.asyncDispose]: async () => {},
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** A gateway that lets the test speak as the model's API. */
class FakeGateway implements Gateway {
  readonly sessions: EgressContext[] = []
  openSessions = 0
  spent: ReturnType<EgressSession['totals']> = { usage: NO_TOKENS, costUsd: 0, requests: 0, overBudget: false }
  credential: 'api-key' | 'oauth' | undefined = 'api-key'

  open(context: EgressContext) {
    this.sessions.push(context)
    this.openSessions += 1
    return {
      accept: () => {},
      totals: () => this.spent,
      settled: async () => {},
      close: async () => void (this.openSessions -= 1),
    }
  }

  async settle(): Promise<void> {}

  async recordsOf(): Promise<ModelUsage[]> {
    return []
  }

  credentialKind(): 'api-key' | 'oauth' | undefined {
    return this.credential
  }
}

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT }

export const SETTINGS: TaskSettings = {
  maxQueued: 10,
  maxRetries: 2,
  maxResultBytes: 32 * 1024 * 1024,
  maxResultFiles: 100,
  maxStateBytes: 1024 * 1024,
  exclude: ['.git', 'node_modules', '*.pyc'],
  atShutdown: 'stop',
  timings: {
    prepareMs: 5000,
    lingerMs: 30,
    terminateMs: 30,
    killMs: 30,
    collectMs: 500,
    lostMs: 200,
    suspendMs: 200,
    shutdownMs: 200,
    uploadMs: 3_600_000,
    retryMs: 10,
    agingMs: 600_000,
  },
}

export const LIMITS: CapacityLimits = {
  memoryMib: 8192,
  vcpus: 64,
  machines: 4,
  largest: { memoryMib: 8192, vcpus: 16 },
  minFreeDiskMib: 1024,
  expectedDiskMib: 1024,
}

/** Forgets tasks whole. */
function fakeRemoval(database: Database, events: FakeEvents, blobs: FakeBlobs): TaskRemoval {
  return {
    async forget(id) {
      await events.remove(id)
      await blobs.removeAll(`results/${id}/`)
      await database.deleteFrom('resultFiles').where('taskId', '=', id).execute()
      await database.deleteFrom('tasks').where('id', '=', id).execute()
      return true
    },
    take: async () => false,
    finish: async () => {},
  }
}

/** What is there whichever orchestrator runs. */
interface World {
  events: FakeEvents
  blobs: FakeBlobs
  machines: FakeMachines
  gateway: FakeGateway
}

/** A tasks service in a house of fakes; `before`: the house of an orchestrator before it, whose machines run on. */
export function fakeHouse(
  database: Database,
  agents: Readonly<Record<AgentName, Agent>>,
  settings: Partial<TaskSettings> = {},
  {
    before,
    limits = {},
    storage = SOUND_STORAGE,
  }: { before?: World; limits?: Partial<CapacityLimits>; storage?: Storage } = {},
) {
  const events = new FakeEvents(before?.events)
  const blobs = before?.blobs ?? new FakeBlobs()
  const machines = before?.machines ?? new FakeMachines()
  const gateway = before?.gateway ?? new FakeGateway()
  const pool = new FakePool()
  const disk = { freeBytes: 2 ** 40 }
  const freeDiskBytes = () => disk.freeBytes
  const capacity = createCapacity({ limits: { ...LIMITS, ...limits }, machines, freeDiskBytes })
  const openWriter: OpenEventWriter = (taskId, onStored) => events.writer(taskId, onStored)
  const removal = fakeRemoval(database, events, blobs)
  const services = {
    database,
    storage,
    removal,
    events,
    openWriter,
    blobs,
    machines,
    capacity,
    pool,
    gateway,
    agents,
    log: SILENT,
  }
  const tasks = createTasks({ ...services, settings: { ...SETTINGS, ...settings } })
  return { tasks, events, blobs, machines, disk, pool, gateway, database }
}

/** A valid request for the shell agent, unless said otherwise. */
export function request(fields: Partial<TaskRequestInput> = {}): TaskRequest {
  return TaskRequest.parse({ prompt: 'echo hello', agent: 'shell', memoryMib: 1024, ...fields })
}
