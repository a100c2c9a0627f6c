import { expect, test } from 'vitest'
import { FairQueue, type QueuedTask } from './queue.ts'

const MINUTE = 60_000
const LIMITS = { machines: 8, memoryMib: 8192, vcpus: 16 }

function setUp() {
  const queue = new FairQueue({ agingMs: 10 * MINUTE, limits: LIMITS })
  /** Adds a task that came so many minutes after the first one. */
  const add = (id: string, minute: number, more: Partial<QueuedTask> = {}) => {
    const size = { memoryMib: 1024, vcpus: 1 }
    const task: QueuedTask = {
      id,
      userId: 'ada',
      priority: 'normal',
      since: minute * MINUTE,
      takesOver: undefined,
      ...size,
      ...more,
    }
    queue.add(task)
    return task
  }
  const order = () => [...queue.inOrder(() => true)].map(({ id }) => id)
  const start = (task: QueuedTask) => {
    queue.remove(task)
    queue.started(task)
  }
  return { queue, add, order, start }
}

test('the oldest goes first, whatever the order of arrival', () => {
  const { add, order } = setUp()
  for (const minute of [3, 1, 2]) add(`t${minute}`, minute)
  expect(order()).toEqual(['t1', 't2', 't3'])
})

test('a higher priority goes first, until a lower one has waited long enough', () => {
  const { add, order } = setUp()
  add('low', 0, { priority: 'low' })
  add('normal', 5)
  add('high', 14, { priority: 'high' })
  add('late', 16, { priority: 'high' })
  // 10 minutes a level: the low one is as old as a normal one of minute 10, or a high one of minute 20.
  expect(order()).toEqual(['high', 'normal', 'late', 'low'])
  add('later', 21, { priority: 'high' })
  expect(order().slice(-2)).toEqual(['low', 'later'])
})

test('users take turns, however many tasks one of them has', () => {
  const { add, order, start } = setUp()
  const mine = Array.from({ length: 500 }, (_, n) => add(`ada${n}`, n))
  add('bob0', 600, { userId: 'bob' })
  add('cy0', 700, { userId: 'cy' })
  expect(order().slice(0, 4)).toEqual(['ada0', 'bob0', 'cy0', 'ada1'])
  for (const task of mine.slice(0, 3)) start(task)
  expect(order().slice(0, 3)).toEqual(['bob0', 'cy0', 'ada3'])
})

test('what counts is the largest share of what a user has, not the number of tasks', () => {
  const { add, order, start } = setUp()
  start(add('large', 0, { userId: 'ada', memoryMib: 4096 }))
  for (const n of [1, 2, 3]) start(add(`small${n}`, n, { userId: 'bob', memoryMib: 512 }))
  add('ada', 4)
  add('bob', 5, { userId: 'bob' })
  expect(order()).toEqual(['bob', 'ada'])
})

test('among equals the one goes first whose turn is longest ago, also when nothing of theirs is left', () => {
  const { add, order, start, queue } = setUp()
  const [ada, bob] = [add('ada1', 0), add('bob1', 0, { userId: 'bob' })]
  for (const task of [ada, bob]) start(task)
  for (const task of [bob, ada]) queue.ended(task)
  add('bob2', 1, { userId: 'bob' })
  add('ada2', 2)
  expect(order()).toEqual(['ada2', 'bob2'])
})

test('sizes are known, of all and of one user', () => {
  const { add, queue } = setUp()
  const task = add('ada1', 0)
  add('bob1', 0, { userId: 'bob' })
  expect([queue.size, queue.sizeOf('ada'), queue.sizeOf('cy')]).toEqual([2, 1, 0])
  queue.remove(task)
  expect([queue.size, queue.sizeOf('ada')]).toEqual([1, 0])
})
