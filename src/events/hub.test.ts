import { expect, test } from 'vitest'
import { Hub } from './hub.ts'
import type { EventRecord } from './record.ts'

const LIMITS = { maxEvents: 3, maxBytes: 100, maxTotalBytes: 300 }
const record = (seq: number, body = '{}'): EventRecord => ({
  seq,
  at: '',
  type: 'text',
  bodyJson: body,
  payloadBytes: null,
})

function hub(finalSeq?: number) {
  return new Hub(LIMITS, async () => ({ lastSeq: finalSeq ?? 0, finalSeq }))
}

test('memory is bounded by count and by bytes', () => {
  using held = hub().hold('t_1')
  const { stream } = held
  stream.publish(
    [1, 2, 3, 4].map((seq) => record(seq)),
    undefined,
  )
  expect(stream.recent(1, 10)).toBeUndefined()
  expect(stream.recent(2, 10)?.map(({ seq }) => seq)).toEqual([2, 3, 4])
  stream.publish([record(5, 'é'.repeat(48))], undefined)
  expect(stream.recent(4, 10)?.map(({ seq }) => seq)).toEqual([4, 5])
  stream.publish([record(6, 'x'.repeat(101))], undefined)
  expect(stream.recent(6, 10)).toBeUndefined()
  expect(stream.lastSeq).toBe(6)
})

test('all tasks together stay within a bound: the one that was written to longest ago forgets first', () => {
  const tasks = hub()
  const [quiet, busy, other] = ['t_1', 't_2', 't_3'].map((id) => tasks.hold(id).stream)
  const body = 'x'.repeat(90)
  for (const stream of [busy, quiet, other, busy]) stream?.publish([record(stream.lastSeq + 1, body)], undefined)
  expect(quiet?.recent(1, 10)).toHaveLength(1)
  tasks.hold('t_4').stream.publish([record(1, 'x'.repeat(80))], undefined)
  expect(quiet?.recent(1, 10)).toBeUndefined()
  expect(quiet?.lastSeq).toBe(1)
  for (const stream of [other, busy]) expect(stream?.recent(stream.lastSeq, 10)).toHaveLength(1)
})

test('a task is forgotten when it is final and nobody follows it', () => {
  const tasks = hub()
  const writer = tasks.hold('t_1')
  const reader = tasks.hold('t_1')
  writer.stream.publish([record(1)], undefined)
  writer[Symbol.dispose]()
  reader[Symbol.dispose]()
  expect(tasks.size).toBe(1)
  using late = tasks.hold('t_1')
  {
    using last = tasks.hold('t_1')
    last.stream.publish([record(2)], 2)
  }
  expect(tasks.size).toBe(1)
  late[Symbol.dispose]()
  expect(tasks.size).toBe(0)
})

test('asking about a task that has no events leaves nothing behind', async () => {
  const tasks = hub()
  {
    using held = tasks.hold('t_unknown')
    await held.stream.load()
  }
  expect(tasks.size).toBe(0)
})

test('a position that could not be read is read again', async () => {
  let attempts = 0
  const tasks = new Hub(LIMITS, async () => {
    attempts += 1
    if (attempts === 1) throw new Error('disk')
    return { lastSeq: 7, finalSeq: undefined }
  })
  using held = tasks.hold('t_1')
  await expect(held.stream.load()).rejects.toThrow('disk')
  await held.stream.load()
  expect(held.stream.lastSeq).toBe(7)
})
