import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { KyselyPlugin } from 'kysely'
import { expect, test } from 'vitest'
import type { NewEvent, TaskEvent } from '../contracts/event.ts'
import { newId } from '../contracts/ids.ts'
import { openDataFolder } from '../store/data-folder.ts'
import { openDatabase } from '../store/database.ts'
import { canMount, mountSmallDisk } from '../store/testing/small-disk.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import type { Logger } from '../telemetry/types.ts'
import { createDeltaCoalescer } from './coalesce.ts'
import { openEventLog } from './log.ts'

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT }

const text = (value: string): NewEvent => ({ type: 'text', text: value })
const FINAL: NewEvent = { type: 'status', status: 'succeeded' }
const lengths = (events: TaskEvent[]) => events.map((event) => (event.type === 'text' ? event.text.length : event.type))

async function openOn(home: string, patienceMs = 60_000) {
  await using stack = new AsyncDisposableStack()
  const database = stack.use(await openDatabase(join(home, 'vivarium.db')))
  const options = { home, anchor: 'vivarium.db', minFreeBytes: 0, patienceMs, log: SILENT }
  const storage = stack.use(await openDataFolder(options))
  const payloadDir = join(home, 'payloads')
  const log = stack.use(await openEventLog({ database, storage, payloadDir }))
  const ownership = stack.move()
  return { log, storage, payloadDir, [Symbol.asyncDispose]: () => ownership.disposeAsync() }
}

async function hasSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol('pending')
  const settled = promise.catch(() => undefined)
  return (await Promise.race([settled, new Promise((resolve) => setImmediate(resolve, pending))])) !== pending
}

test.skipIf(!canMount)(
  'disk full, events: writers are held back, history is served, and later nothing is missing',
  async () => {
    using disk = mountSmallDisk({ kib: 6144 })
    await using house = await openOn(disk.path)
    const { log, storage } = house
    const [old, taskId] = [newId('t'), newId('t')]
    await log.append(old, [text('history'), FINAL])
    await log.append(taskId, [text('one')])
    const live: TaskEvent[] = []
    const reading = (async () => {
      for await (const event of log.follow(taskId, 1)) live.push(event)
    })()
    disk.fill()
    // Inline, beside the log, inline again: each of them has its own way to meet the full disk.
    const appends = [60_000, 200_000, 60_000].map((size) => log.append(taskId, [text('x'.repeat(size))]))
    await expect.poll(() => storage.holdsBack).toBe(true)
    expect(await storage.problem()).toMatch(/full|no space/)
    expect(lengths(await log.read(old, 1, 10))).toEqual([7, 'status'])
    expect(await Promise.all(appends.map(hasSettled))).toEqual([false, false, false])
    expect(lengths(live)).toEqual([3])
    disk.makeRoom()
    expect(await Promise.all(appends)).toEqual([2, 3, 4])
    await log.append(taskId, [FINAL])
    await reading
    expect(lengths(live)).toEqual([3, 60_000, 200_000, 60_000, 'status'])
    expect(await log.read(taskId, 1, 10)).toEqual(live)
    expect(await storage.problem()).toBeUndefined()
  },
)

test.skipIf(!canMount)(
  'disk full for longer than the patience: the append fails with the reason and leaves nothing',
  async () => {
    using disk = mountSmallDisk({ kib: 6144 })
    await using house = await openOn(disk.path, 300)
    const { log, payloadDir } = house
    const taskId = newId('t')
    await log.append(taskId, [text('one')])
    disk.fill()
    await expect(log.append(taskId, [text('x'.repeat(200_000))])).rejects.toMatchObject({
      code: 'storage_failed',
      message: expect.stringMatching(/full|no space/i),
    })
    expect(await readdir(join(payloadDir, 'staging'))).toEqual([])
    disk.makeRoom()
    expect(await log.append(taskId, [text('two')])).toBe(2)
  },
)

test('partial text does not pile up while the disk takes nothing', async () => {
  const room = Promise.withResolvers<void>()
  const appends: NewEvent[][] = []
  const writer = createDeltaCoalescer({
    append: async (events) => {
      appends.push(events)
      await room.promise
    },
    windowMs: 1,
    maxChars: 1000,
  })
  const delta = (value: string): NewEvent => ({ type: 'delta', kind: 'text', text: value })
  const writes: Promise<void>[] = []
  for (let i = 0; i < 20; i++) {
    writes.push(writer.write([delta('x'.repeat(100))]))
    await new Promise((resolve) => setTimeout(resolve, 3))
  }
  // One append under way, and one that the full buffer has begun, which is awaited by who filled it.
  expect(appends.length).toBeLessThanOrEqual(2)
  expect(await Promise.all(writes.map(hasSettled))).toContain(false)
  room.resolve()
  await writer.flush()
  const all = appends.flat().map((event) => (event.type === 'delta' ? event.text : ''))
  expect(all.join('')).toHaveLength(2000)
})

test("slow disk: other tasks' readers are served between commits, and no append times out", async () => {
  await using database = await openDatabase(':memory:')
  // SQLite blocks the process while the disk writes: so does this, for each commit.
  const slow: KyselyPlugin = {
    transformQuery({ node }) {
      if (node.kind === 'InsertQueryNode') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60)
      return node
    },
    transformResult: async ({ result }) => result,
  }
  const payloadDir = await mkdtemp(join(tmpdir(), 'vivarium-slow-'))
  const [old, taskId] = [newId('t'), newId('t')]
  {
    await using log = await openEventLog({ database, storage: SOUND_STORAGE, payloadDir })
    await log.append(old, [...Array.from({ length: 300 }, (_, i) => text(`${i}`)), FINAL])
  }
  await using log = await openEventLog({ database: database.withPlugin(slow), storage: SOUND_STORAGE, payloadDir })
  let isWriting = true
  const writing = (async () => {
    for (let i = 0; i < 15; i++) await log.append(taskId, [text(`${i}`)])
    await log.append(taskId, [FINAL])
    isWriting = false
  })()
  let seen = 0
  for await (const _event of log.follow(old, 1)) seen += 1
  expect([seen, isWriting]).toEqual([301, true])
  await writing
  expect(lengths(await log.read(taskId, 1, 100))).toHaveLength(16)
  await rm(payloadDir, { recursive: true })
})
