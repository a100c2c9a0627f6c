import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createDiskBlobs } from '../blobs/disk.ts'
import type { Blobs } from '../blobs/types.ts'
import { Settings } from '../config/schema.ts'
import { newId } from '../contracts/ids.ts'
import type { TaskStatus } from '../contracts/task.ts'
import { openEventLog } from '../events/log.ts'
import type { EventLog } from '../events/types.ts'
import { openDatabase, type Database } from '../store/database.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import { blobKeys } from '../tasks/blob-keys.ts'
import type { Logger } from '../telemetry/types.ts'
import { sweepOrphans } from './orphans.ts'
import { createRemoval } from './removal.ts'
import { createRetention, type RetentionOptions } from './retention.ts'

const DAY_MS = 24 * 60 * 60_000
const OFF = {
  resultsDays: 0,
  resultsMib: 0,
  stateDays: 0,
  stateMib: 0,
  eventsDays: 0,
  eventsMib: 0,
  tasksDays: 0,
  suspendedMib: 0,
}

let dir: string
let database: Database
let blobs: Blobs
let events: EventLog
let said: string[]
const log: Logger = {
  debug() {},
  info() {},
  warn: (message: unknown) => void said.push(String(message)),
  error() {},
  child: () => log,
}

beforeEach(async () => {
  said = []
  dir = await mkdtemp(join(tmpdir(), 'vivarium-retention-'))
  database = await openDatabase(join(dir, 'test.db'))
  blobs = await createDiskBlobs(join(dir, 'blobs'))
  events = await openEventLog({ database, storage: SOUND_STORAGE, payloadDir: join(dir, 'payloads') })
})

afterEach(async () => {
  await events[Symbol.asyncDispose]()
  await database.destroy()
  await rm(dir, { recursive: true, force: true })
})

const removal = () => createRemoval({ database, events, blobs })

function retention(settings: Partial<RetentionOptions['settings']>, more: Partial<RetentionOptions> = {}) {
  return createRetention({
    database,
    blobs,
    removal: removal(),
    machines: { list: () => [], evict: async () => {} },
    machineBytes: async () => 0,
    settings: { ...OFF, ...settings },
    log,
    ...more,
  })
}

/** A task with a result, a patch, a stored state and two events, one of them kept beside the log. */
async function addTask(daysAgo: number, fields: { status?: TaskStatus; continues?: string } = {}): Promise<string> {
  const id = newId('t')
  const { status = 'succeeded', continues = null } = fields
  const at = new Date(Date.now() - daysAgo * DAY_MS).toISOString()
  const common = { userId: 'u_1', priority: 'normal', requestHash: '', costUsd: 0, turns: 0, phasesJson: '[]' }
  const tokens = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 }
  await database
    .insertInto('tasks')
    .values({
      id,
      ...common,
      ...tokens,
      status,
      continues,
      requestJson: JSON.stringify({ continues }),
      createdAt: at,
      finishedAt: at,
      hasState: 1,
    })
    .execute()
  await blobs.put(blobKeys.file(id, 'a/b.txt'), Buffer.alloc(600_000))
  await database
    .insertInto('resultFiles')
    .values({ taskId: id, path: 'a/b.txt', size: 600_000, mimeType: '' })
    .execute()
  await blobs.put(blobKeys.patch(id), Buffer.from('patch'))
  await blobs.put(blobKeys.workspace(id), Buffer.from('tar'))
  await events.append(id, [
    { type: 'text', text: 'x'.repeat(600_000) },
    { type: 'text', text: 'short' },
  ])
  return id
}

/** Which parts are there: in the row, on disk, in the log. */
async function partsOf(id: string) {
  const row = await database.selectFrom('tasks').selectAll().where('id', '=', id).executeTakeFirst()
  const has = async (key: string) => (await blobs.size(key)) !== undefined
  return {
    row: row !== undefined,
    removed: Object.keys(JSON.parse(row?.removedJson ?? '{}') as object).toSorted(),
    files: [await has(blobKeys.file(id, 'a/b.txt')), await has(blobKeys.patch(id))],
    state: [row?.hasState === 1, await has(blobKeys.workspace(id))],
    events: (await events.read(id, 1, 10)).length,
  }
}

const WHOLE = { row: true, removed: [], files: [true, true], state: [true, true], events: 2 }

test('what is older than its days goes, and the task says what, when and why', async () => {
  const [old, young] = [await addTask(100), await addTask(10)]
  using keeper = retention({ resultsDays: 90, eventsDays: 120, stateDays: 30 })
  expect(await keeper.run()).toMatchObject({ files: 1, state: 1, events: 0, tasks: 0 })
  expect(await partsOf(young)).toEqual(WHOLE)
  expect(await partsOf(old)).toEqual({
    ...WHOLE,
    removed: ['files', 'state'],
    files: [false, false],
    state: [false, false],
  })
  const row = await database.selectFrom('tasks').select('removedJson').where('id', '=', old).executeTakeFirstOrThrow()
  expect(JSON.parse(row.removedJson)).toMatchObject({
    files: { at: expect.any(String), setting: 'retention.resultsDays' },
    state: { setting: 'retention.stateDays' },
  })
  expect(await keeper.run()).toMatchObject({ files: 0, state: 0, events: 0, bytes: 0 })
  expect(keeper.freed.bytes).toBeGreaterThanOrEqual(600_000)
})

test('beyond a size the oldest finished go first', async () => {
  const ids = [await addTask(3), await addTask(2), await addTask(1)]
  using keeper = retention({ eventsMib: 1, resultsMib: 1 })
  expect(await keeper.run()).toMatchObject({ files: 2, events: 2 })
  expect(await Promise.all(ids.map(async (id) => (await partsOf(id)).events))).toEqual([0, 0, 2])
  expect((await partsOf(ids[2] ?? '')).files).toEqual([true, true])
})

test('nothing goes of what runs or waits, nor a state that a waiting follow-up needs', async () => {
  const running = await addTask(1000, { status: 'running' })
  const queued = await addTask(1000, { status: 'queued' })
  const origin = await addTask(1000)
  const follower = await addTask(0, { status: 'queued', continues: origin })
  using keeper = retention({ resultsDays: 1, eventsDays: 1, stateDays: 1, tasksDays: 1 })
  await keeper.run()
  expect([await partsOf(running), await partsOf(queued)]).toEqual([WHOLE, WHOLE])
  expect(await partsOf(origin)).toMatchObject({ row: true, state: [true, true] })
  await database.updateTable('tasks').set({ status: 'succeeded' }).where('id', '=', follower).execute()
  expect(await keeper.run()).toMatchObject({ tasks: 1 })
  expect(await partsOf(origin)).toMatchObject({ row: false, files: [false, false], state: [false, false], events: 0 })
})

test('zero keeps everything for ever, and the defaults are what the settings say', async () => {
  const id = await addTask(5000)
  using keeper = retention({})
  await keeper.run()
  expect(await partsOf(id)).toEqual(WHOLE)
  expect(Settings.parse({}).retention).toMatchObject({ resultsDays: 90, eventsDays: 90, stateDays: 30, tasksDays: 365 })
})

test('a clock that jumps ahead removes nothing; once it stands there for an hour it is believed', async () => {
  const id = await addTask(10)
  let reading = { wallMs: Date.now(), steadyMs: 0 }
  using keeper = retention({ tasksDays: 365 }, { read: () => reading })
  reading = { wallMs: reading.wallMs + 1000 * DAY_MS, steadyMs: 1000 }
  await keeper.run()
  expect([(await partsOf(id)).row, said]).toEqual([true, [expect.stringContaining('clock of this host has jumped')]])
  reading = { wallMs: reading.wallMs + 3_600_000, steadyMs: 3_601_000 }
  expect(await keeper.run()).toMatchObject({ tasks: 1 })
})

test('a removal that was killed between row and bytes is ended by the next start', async () => {
  const [first, second] = [await addTask(100), await addTask(100)]
  const failing: Blobs = { ...blobs, removeAll: () => Promise.reject(new Error('killed')) }
  const killed = createRemoval({ database, events, blobs: failing })
  await expect(killed.take(first, 'files', 'retention.resultsDays')).rejects.toThrow('killed')
  await expect(killed.forget(second)).rejects.toThrow('killed')
  // The rows promise nothing any more, the bytes are still there.
  expect(await partsOf(first)).toMatchObject({ removed: ['files'], files: [true, true] })
  expect(await partsOf(second)).toMatchObject({ row: false, files: [true, true] })
  await removal().finish()
  expect(await partsOf(first)).toMatchObject({ files: [false, false], state: [true, true], events: 2 })
  expect(await partsOf(second)).toMatchObject({ row: false, files: [false, false], state: [false, false], events: 0 })
  expect(await database.selectFrom('removals').selectAll().execute()).toEqual([])
})

test('bytes that a kill left without a row are swept, what a row names or is newer than every task is not', async () => {
  const orphan = newId('t')
  await blobs.put(blobKeys.file(orphan, 'x'), Buffer.from('x'))
  await blobs.put(blobKeys.input(orphan, 0), Buffer.from('x'))
  await blobs.put(blobKeys.upload('w_aaaaaaaaaaaa'), Buffer.from('x'))
  const tasks = [await addTask(-1), await addTask(1, { status: 'running' })]
  await blobs.put(blobKeys.input(tasks[1] ?? '', 0), Buffer.from('needed'))
  expect(await sweepOrphans(database, blobs)).toBe(3)
  expect(await blobs.size(blobKeys.file(orphan, 'x'))).toBeUndefined()
  expect(await blobs.size(blobKeys.input(tasks[1] ?? '', 0))).toBe(6)
  expect(await partsOf(tasks[1] ?? '')).toEqual(WHOLE)
  await database
    .deleteFrom('tasks')
    .where('id', '=', tasks[0] ?? '')
    .execute()
  expect(await sweepOrphans(database, blobs)).toBe(0)
})

test('suspended kept machines that take too much go, the oldest first, but not one that a waiting task needs', async () => {
  const origin = await addTask(1)
  await addTask(0, { status: 'queued', continues: origin })
  const machine = (id: string, createdAt: string, taskId: string | null = null) => ({
    id,
    createdAt,
    taskId,
    state: 'suspended' as const,
    userId: 'u_1',
    engine: 'qemu-tcg' as const,
    memoryMib: 512,
    vcpus: 1,
    startedFrom: 'boot' as const,
    template: null,
    phases: [],
    error: null,
    keepUntil: '2099-01-01T00:00:00Z',
  })
  const list = [machine('m_b', '2026-02'), machine('m_a', '2026-01'), machine('m_c', '2025-01', origin)]
  const evicted: string[] = []
  const machines = { list: () => list, evict: async (id: string) => void evicted.push(id) }
  using keeper = retention({ suspendedMib: 3 }, { machines, machineBytes: async () => 2 * 1024 ** 2 })
  expect(await keeper.run()).toMatchObject({ machines: 1 })
  expect(evicted).toEqual(['m_a'])
})
