import { expect, test } from 'vitest'
import { Backpressure } from './backpressure.ts'
import { Pace } from './pace.ts'

function setUp(maxQueued: number) {
  const waiting = new Map<string, number>()
  const door = new Backpressure({
    maxQueued,
    queued: (userId) => ({
      all: waiting.values().reduce((sum, count) => sum + count, 0),
      ofUser: waiting.get(userId) ?? 0,
    }),
    retryAfterSeconds: () => 7,
  })
  /** Queues tasks until one is refused; returns how many were taken, and the refusal. */
  function fill(userId: string) {
    for (let taken = 0; ; taken += 1) {
      try {
        door.enter(userId, 1)[Symbol.dispose]()
        waiting.set(userId, (waiting.get(userId) ?? 0) + 1)
      } catch (error) {
        return { taken, error }
      }
    }
  }
  return { door, fill, waiting }
}

test('a user alone may have four fifths of the queue, and later ones find places left', () => {
  const { fill } = setUp(1000)
  const taken = ['ada', 'bob', 'cy'].map((user) => fill(user).taken)
  expect(taken).toEqual([800, 160, 32])
})

test('a refusal says why and when to come again', () => {
  const { fill } = setUp(10)
  expect(fill('ada')).toEqual({
    taken: 8,
    error: expect.objectContaining({
      code: 'queue_full',
      retryAfterSeconds: 7,
      message:
        '8 of your tasks wait already; of 10 places (tasks.maxQueued) the last ones are for others. Try again in 7 s, when some have been started.',
    }),
  })
  fill('bob')
  expect(fill('cy')).toMatchObject({
    taken: 0,
    error: { message: expect.stringMatching(/^At most 10 tasks can wait/) },
  })
})

test('the smallest queue still takes a task', () => {
  expect(setUp(1).fill('ada').taken).toBe(1)
})

test('several at once have places for all of them or for none', () => {
  const { door, fill } = setUp(10)
  expect(() => door.enter('ada', 9)).toThrow('Try again in 7 s')
  door.enter('ada', 8)[Symbol.dispose]()
  expect(fill('ada').taken).toBe(8)
})

test('what is on its way into the queue has its places', () => {
  const { door } = setUp(10)
  const first = door.enter('ada', 5)
  expect(() => door.enter('ada', 4)).toThrow('5 of your tasks wait')
  door.enter('bob', 4)[Symbol.dispose]()
  first[Symbol.dispose]()
  door.enter('ada', 8)[Symbol.dispose]()
})

test('when to come again is told from how long tasks took lately, within bounds', () => {
  const pace = new Pace()
  expect(pace.untilNextEnd(4)).toBe(10)
  for (let n = 0; n < 20; n += 1) pace.ran(60_000)
  expect([pace.untilNextEnd(1), pace.untilNextEnd(4), pace.untilNextEnd(0)]).toEqual([60, 15, 10])
  for (let n = 0; n < 20; n += 1) pace.ran(10)
  expect(pace.untilNextEnd(4)).toBe(1)
  for (let n = 0; n < 20; n += 1) pace.ran(86_400_000)
  expect(pace.untilNextEnd(1)).toBe(120)
})
