import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { NewEvent, TaskEvent } from '../contracts/event.ts'
import { newId } from '../contracts/ids.ts'
import { openDatabase, type Database } from '../store/database.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import { openEventLog, type EventLogOptions } from './log.ts'

let dir: string
let database: Database

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vivarium-events-'))
  database = await openDatabase(join(dir, 'test.db'))
})

afterEach(async () => {
  await database.destroy()
  await rm(dir, { recursive: true, force: true })
})

const payloadDir = () => join(dir, 'payloads')
const open = (options: Partial<EventLogOptions> = {}) =>
  openEventLog({ database, storage: SOUND_STORAGE, payloadDir: payloadDir(), ...options })

const text = (value: string): NewEvent => ({ type: 'text', text: value })
const FINAL: NewEvent = { type: 'status', status: 'succeeded' }

async function collect(events: AsyncIterable<TaskEvent>, into: TaskEvent[] = []): Promise<TaskEvent[]> {
  for await (const event of events) into.push(event)
  return into
}

const texts = (events: TaskEvent[]) => events.map((event) => (event.type === 'text' ? event.text : event.type))
const seqs = (events: TaskEvent[]) => events.map((event) => event.seq)
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

test('an event is stored before anyone sees it', async () => {
  // A connection of its own sees only what is committed.
  using committed = new DatabaseSync(join(dir, 'test.db'))
  await using log = await open()
  const taskId = newId('t')
  const reading = (async () => {
    for await (const event of log.follow(taskId, 1)) {
      const row = committed.prepare('SELECT body_json AS body FROM events WHERE seq = ?').get(event.seq)
      expect(row).toEqual({ body: '{"text":"hello"}' })
      return event
    }
  })()
  expect(await log.append(taskId, [text('hello')])).toBe(1)
  expect(await reading).toMatchObject({ seq: 1, taskId, type: 'text', text: 'hello' })
})

test('readers that join before, during and after see every event exactly once and in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 12 }),
      fc.array(fc.record({ joinAt: fc.nat(14), from: fc.integer({ min: 1, max: 60 }) }), { maxLength: 6 }),
      fc.integer({ min: 1, max: 8 }),
      async (batches, readers, maxEvents) => {
        await using log = await open({ maxEvents, windowMs: 0 })
        const taskId = newId('t')
        const total = batches.reduce((sum, size) => sum + size, 0) + 1
        const reading: Promise<void>[] = []
        const joinNow = (step: number) => {
          for (const { from } of readers.filter(({ joinAt }) => joinAt === step)) {
            const expected = upTo(total).filter((seq) => seq >= from)
            reading.push(collect(log.follow(taskId, from)).then((seen) => expect(seqs(seen)).toEqual(expected)))
          }
        }
        for (const [step, size] of batches.entries()) {
          joinNow(step)
          const appended = log.append(
            taskId,
            upTo(size).map(() => text(`${step}`)),
          )
          if (step % 2 === 0) await appended
        }
        await log.append(taskId, [FINAL])
        for (let step = batches.length; step <= 14; step++) joinNow(step)
        await Promise.all(reading)
        expect(seqs(await log.read(taskId, 1, 1000))).toEqual(upTo(total))
      },
    ),
    { numRuns: 60 },
  )
})

test('a slow reader delays neither the task nor other readers, and misses nothing', async () => {
  await using log = await open({ maxEvents: 10 })
  const taskId = newId('t')
  await log.append(taskId, [text('0')])
  const slow = log.follow(taskId, 1)[Symbol.asyncIterator]()
  const first = await slow.next()
  const fast = collect(log.follow(taskId, 1))
  for (let i = 1; i <= 500; i++) void log.append(taskId, [text(`${i}`)])
  await log.append(taskId, [FINAL])
  // Writer and fast reader are done while the slow reader has not asked for its second event.
  const all = await fast
  expect(seqs(all)).toEqual(upTo(502))
  const rest = await collect({ [Symbol.asyncIterator]: () => slow })
  expect([first.value, ...rest]).toEqual(all)
})

test('two tasks at once never mix events (the OnEvent race)', async () => {
  await using log = await open()
  const [a, b] = [newId('t'), newId('t')]
  const readers = [collect(log.follow(a, 1)), collect(log.follow(b, 1))]
  for (let i = 1; i <= 300; i++) {
    void log.append(a, [text(`a${i}`)])
    void log.append(b, [text(`b${i}`)])
  }
  await Promise.all([log.append(a, [FINAL]), log.append(b, [FINAL])])
  const [fromA, fromB] = await Promise.all(readers)
  expect(texts(fromA ?? [])).toEqual([...upTo(300).map((i) => `a${i}`), 'status'])
  expect(texts(fromB ?? [])).toEqual([...upTo(300).map((i) => `b${i}`), 'status'])
  expect(new Set(fromA?.map((event) => event.taskId))).toEqual(new Set([a]))
})

test('200 tasks at once each get 1, 2, 3 … without a hole', async () => {
  await using log = await open()
  const taskIds = Array.from({ length: 200 }, () => newId('t'))
  const readers = taskIds.map((taskId) => collect(log.follow(taskId, 1)))
  await Promise.all(
    taskIds.map(async (taskId) => {
      for (let i = 0; i < 10; i++) await log.append(taskId, [text(taskId), text(taskId)])
      await log.append(taskId, [FINAL])
    }),
  )
  for (const [index, seen] of (await Promise.all(readers)).entries()) {
    expect(seqs(seen)).toEqual(upTo(21))
    expect(new Set(texts(seen))).toEqual(new Set([taskIds[index], 'status']))
  }
})

test('after a restart a task goes on at its next seq', async () => {
  const taskId = newId('t')
  {
    await using log = await open()
    await log.append(taskId, [text('one'), text('two')])
  }
  await using log = await open()
  const reading = collect(log.follow(taskId, 2))
  expect(await log.append(taskId, [text('three')])).toBe(3)
  await log.append(taskId, [FINAL])
  expect(texts(await reading)).toEqual(['two', 'three', 'status'])
})

test('closing the log keeps what was appended before and lets readers go', async () => {
  const taskId = newId('t')
  const log = await open()
  const reading = collect(log.follow(taskId, 1))
  const appended = upTo(50).map((i) => log.append(taskId, [text(`${i}`)]))
  await log[Symbol.asyncDispose]()
  expect(await Promise.all(appended)).toEqual(upTo(50))
  await reading
  await expect(log.append(taskId, [text('late')])).rejects.toMatchObject({ code: 'storage_failed' })
  await using again = await open()
  expect(await again.read(taskId, 1, 100)).toHaveLength(50)
})

test('a reader that is behind when the log is closed gets the rest before it leaves, and one that comes later all of it', async () => {
  const taskId = newId('t')
  const log = await open({ maxEvents: 5 })
  await log.append(taskId, [text('1')])
  const seen: number[] = []
  const reading = (async () => {
    for await (const { seq } of log.follow(taskId, 1)) {
      if (seq === 1) {
        await log.append(
          taskId,
          upTo(200).map((i) => text(`${i}`)),
        )
        await log[Symbol.asyncDispose]()
      }
      seen.push(seq)
    }
  })()
  await reading
  expect(seen).toEqual(upTo(201))
  expect(seqs(await collect(log.follow(taskId, 1)))).toEqual(upTo(201))
})

test('a huge body is kept beside the log and comes back as it was, live and stored', async () => {
  await using log = await open()
  const taskId = newId('t')
  const huge = 'é\u0000"\n'.repeat(100_000)
  const reading = collect(log.follow(taskId, 1))
  await log.append(taskId, [text('before'), text(huge), text('after')])
  await log.append(taskId, [FINAL])
  const live = await reading
  expect(texts(live)).toEqual(['before', huge, 'after', 'status'])
  expect(await log.read(taskId, 1, 10)).toEqual(live)
  const row = await database.selectFrom('events').where('seq', '=', 2).selectAll().executeTakeFirst()
  const file = await readFile(join(payloadDir(), taskId, '2.json'))
  expect(row).toMatchObject({ bodyJson: '', payloadBytes: file.length })
  expect(await readdir(payloadDir())).toEqual(expect.arrayContaining([taskId, 'staging']))
  expect(await readdir(join(payloadDir(), 'staging'))).toEqual([])
})

test('a huge body that takes time to write is not overtaken by what the task says next', async () => {
  await using log = await open({ windowMs: 0 })
  const taskId = newId('t')
  const sizes = [5_000_000, 1, 70_000, 2, 3]
  const lastSeqs = await Promise.all(sizes.map((size) => log.append(taskId, [text('x'.repeat(size))])))
  expect(lastSeqs).toEqual([1, 2, 3, 4, 5])
  const lengths = (await log.read(taskId, 1, 10)).map((event) => (event.type === 'text' ? event.text.length : 0))
  expect(lengths).toEqual(sizes)
})

test('closing waits for every append, also when a later one has already failed', async () => {
  const log = await open({ windowMs: 50 })
  const taskId = newId('t')
  const kept = log.append(taskId, [text('kept')])
  await rm(join(payloadDir(), 'staging'), { recursive: true })
  const failed = log.append(taskId, [text('x'.repeat(100_000))])
  const outcomes = Promise.allSettled([kept, failed])
  await log[Symbol.asyncDispose]()
  expect(await database.selectFrom('events').select('seq').execute()).toEqual([{ seq: 1 }])
  expect(await outcomes).toMatchObject([
    { status: 'fulfilled', value: 1 },
    { status: 'rejected', reason: { code: 'storage_failed' } },
  ])
})

test('what a killed orchestrator had staged is removed at start', async () => {
  await (await open())[Symbol.asyncDispose]()
  await writeFile(join(payloadDir(), 'staging', '1.json'), 'half')
  await using _log = await open()
  expect(await readdir(join(payloadDir(), 'staging'))).toEqual([])
})

test('what a killed orchestrator had placed behind the end of a log is removed before the log goes on', async () => {
  const taskId = newId('t')
  {
    await using log = await open()
    await log.append(taskId, [text('x'.repeat(100_000))])
  }
  await writeFile(join(payloadDir(), taskId, '2.json'), '{"text":"never stored"}')
  await using log = await open()
  expect(await log.append(taskId, [text('two')])).toBe(2)
  expect(await readdir(join(payloadDir(), taskId))).toEqual(['1.json'])
})

test('reading one page of huge events stays within a bound', async () => {
  await using log = await open()
  const taskId = newId('t')
  for (let i = 0; i < 6; i++) await log.append(taskId, [text('x'.repeat(5 * 1024 * 1024))])
  expect(seqs(await log.read(taskId, 1, 100))).toEqual([1, 2, 3, 4])
  expect(seqs(await log.read(taskId, 5, 100))).toEqual([5, 6])
  expect(seqs(await log.read(taskId, 2, 1))).toEqual([2])
  expect(await log.read(taskId, 7, 100)).toEqual([])
})

test('an append fails whole, takes no seq, and does not stop the next', async () => {
  await using log = await open()
  const taskId = newId('t')
  await log.append(taskId, [text('one')])
  await database.schema.alterTable('events').renameTo('gone').execute()
  await expect(log.append(taskId, [text('lost'), text('x'.repeat(100_000))])).rejects.toMatchObject({
    code: 'storage_failed',
  })
  await database.schema.alterTable('gone').renameTo('events').execute()
  expect(await readdir(join(payloadDir(), taskId))).toEqual([])
  expect(await log.append(taskId, [text('two')])).toBe(2)
  expect(texts(await log.read(taskId, 1, 10))).toEqual(['one', 'two'])
})

test('an event that nests too deeply fails alone', async () => {
  await using log = await open()
  const taskId = newId('t')
  // V8 writes plain arrays of any depth, but not below an object with a numeric key.
  const input: unknown = JSON.parse(`{"10":${'['.repeat(200_000)}${']'.repeat(200_000)}}`)
  const deep = log.append(taskId, [{ type: 'tool_call', toolUseId: 'x', name: 'Bash', input }])
  const next = log.append(taskId, [text('fine')])
  await expect(deep).rejects.toMatchObject({ code: 'guest_misbehaved' })
  expect(await next).toBe(1)
})

test('following from beyond the end of a finished task ends at once', async () => {
  const taskId = newId('t')
  await using log = await open()
  await log.append(taskId, [text('one'), FINAL])
  expect(await collect(log.follow(taskId, 3))).toEqual([])
  await using restarted = await open()
  expect(await collect(restarted.follow(taskId, 3))).toEqual([])
  expect(seqs(await collect(restarted.follow(taskId, 2)))).toEqual([2])
})

test("nothing follows a task's final event, in the same transaction, later, or after a restart", async () => {
  const taskId = newId('t')
  const refused = { code: 'conflict' }
  {
    await using log = await open()
    await expect(log.append(taskId, [FINAL, text('late')])).rejects.toMatchObject(refused)
    const outcomes = await Promise.allSettled([
      log.append(taskId, [text('one'), FINAL]),
      log.append(taskId, [text('late')]),
    ])
    expect(outcomes).toMatchObject([
      { status: 'fulfilled', value: 2 },
      { status: 'rejected', reason: refused },
    ])
    await expect(log.append(taskId, [FINAL])).rejects.toMatchObject(refused)
  }
  await using log = await open()
  await expect(log.append(taskId, [FINAL])).rejects.toMatchObject(refused)
  expect(texts(await log.read(taskId, 1, 10))).toEqual(['one', 'status'])
})

test('readers are sent the JSON of the very same events, encoded once for all of them', async () => {
  await using log = await open()
  const taskId = newId('t')
  const huge = 'é\u0000"\n'.repeat(100_000)
  const readers = [1, 2].map(() => Array.fromAsync(log.followJson(taskId, 1)))
  // An event without a body of its own, quotes in one, and one that lies beside the log.
  await log.append(taskId, [{ type: 'status', status: 'queued' }, text('"quoted"'), text(huge), FINAL])
  const [one = [], other = []] = await Promise.all(readers)
  const events = await collect(log.follow(taskId, 1))
  expect(one.map(({ json }) => json.toString())).toEqual(events.map((event) => JSON.stringify(event)))
  expect(one.map(({ seq }) => seq)).toEqual(upTo(4))
  expect(one[1]?.json).toBe(other[1]?.json)
})

test('a reader of large events reads them in small numbers, and misses none', async () => {
  await using log = await open({ maxEvents: 1 })
  const taskId = newId('t')
  const sizes = [10, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 10, 10]
  await log.append(taskId, [...sizes.map((size) => text('x'.repeat(size))), FINAL])
  const lengths = (await collect(log.follow(taskId, 1))).map((event) => (event.type === 'text' ? event.text.length : 0))
  expect(lengths).toEqual([...sizes, 0])
})

test('a reader leaves when its signal aborts or it is returned while it waits', async () => {
  await using log = await open()
  const taskId = newId('t')
  await log.append(taskId, [text('one')])
  const abort = new AbortController()
  const seen: TaskEvent[] = []
  const reading = collect(log.follow(taskId, 1, abort.signal), seen)
  await expect.poll(() => seen.length).toBe(1)
  abort.abort()
  await reading
  expect(await collect(log.follow(taskId, 1, AbortSignal.abort()))).toEqual([])

  const iterator = log.follow(taskId, 2)[Symbol.asyncIterator]()
  const waiting = iterator.next()
  await iterator.return?.()
  expect(await waiting).toEqual({ done: true, value: undefined })
})

test('a removed task leaves no rows, no files and no waiting reader', async () => {
  await using log = await open()
  const [taskId, other] = [newId('t'), newId('t')]
  await log.append(other, [text('stays')])
  await log.append(taskId, [text('x'.repeat(100_000))])
  const reading = collect(log.follow(taskId, 2))
  const last = log.append(taskId, [text('two')])
  await log.remove(taskId)
  await last
  await reading
  expect(await log.read(taskId, 1, 10)).toEqual([])
  expect(await log.read(other, 1, 10)).toHaveLength(1)
  expect(await readdir(payloadDir())).toEqual(['staging'])
  expect(await log.append(taskId, [text('anew')])).toBe(1)
})
