import { expect, test } from 'vitest'
import { due } from './policy.ts'

const now = new Date('2026-06-30T00:00:00Z')
const tasks = [
  { id: 'a', finishedAt: '2026-06-01T00:00:00Z', bytes: 10 },
  { id: 'b', finishedAt: '2026-06-20T00:00:00Z', bytes: 20 },
  { id: 'c', finishedAt: '2026-06-29T00:00:00Z', bytes: 30 },
]
const ids = (limit: { days: number; bytes: number }) => due(tasks, limit, now).map(({ id, why }) => `${id} ${why}`)

test('age takes what is older, size the oldest until the rest fits, zero nothing', () => {
  expect(ids({ days: 0, bytes: 0 })).toEqual([])
  expect(ids({ days: 15, bytes: 0 })).toEqual(['a age'])
  expect(ids({ days: 0, bytes: 50 })).toEqual(['a size'])
  expect(ids({ days: 0, bytes: 49 })).toEqual(['a size', 'b size'])
  expect(ids({ days: 0, bytes: 60 })).toEqual([])
  expect(ids({ days: 15, bytes: 30 })).toEqual(['a age', 'b size'])
  expect(ids({ days: 1, bytes: 1 })).toEqual(['a age', 'b age', 'c size'])
})
