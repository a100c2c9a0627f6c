import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { quietLog } from '../../test/machines/fakes.ts'
import { Keeper } from './keeper.ts'

const HOUR_MS = 60 * 60_000

let done: string[]
let failing: boolean
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] })
  done = []
  failing = false
})
afterEach(() => void vi.useRealTimers())

function openKeeper(idleMs = 1000) {
  const note = (what: string) => async (id: string) => {
    done.push(`${what} ${id}`)
    if (failing) throw new Error('not now')
  }
  return new Keeper({ idleMs, suspend: note('suspend'), destroy: note('destroy'), log: quietLog })
}

const inMs = (ms: number) => new Date(Date.now() + ms)

test('a kept machine is suspended when nobody has used it for a while, and destroyed when its time is over', async () => {
  using keeper = openKeeper()
  keeper.keep('a', inMs(HOUR_MS))
  await vi.advanceTimersByTimeAsync(900)
  keeper.used('a')
  await vi.advanceTimersByTimeAsync(900)
  expect(done).toEqual([])
  await vi.advanceTimersByTimeAsync(100)
  expect(done).toEqual(['suspend a'])
  await vi.advanceTimersByTimeAsync(HOUR_MS)
  expect(done).toEqual(['suspend a', 'destroy a'])
})

test('a machine is not suspended while somebody uses it, also where that began before it was kept', async () => {
  using keeper = openKeeper()
  const [first, second] = [keeper.use('a'), keeper.use('a')]
  keeper.keep('a', inMs(HOUR_MS))
  await vi.advanceTimersByTimeAsync(5000)
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  expect(keeper.isUsed('a')).toBe(true)
  await vi.advanceTimersByTimeAsync(5000)
  expect(done).toEqual([])
  second[Symbol.dispose]()
  expect(keeper.isUsed('a')).toBe(false)
  await vi.advanceTimersByTimeAsync(1000)
  expect(done).toEqual(['suspend a'])
})

test('a machine that has another use is let alone; one kept anew has the new time', async () => {
  using keeper = openKeeper()
  keeper.keep('a', inMs(5000))
  keeper.release('a')
  keeper.keep('b', inMs(5000))
  keeper.keep('b', inMs(9000))
  await vi.advanceTimersByTimeAsync(8000)
  expect(done).toEqual(['suspend b'])
  await vi.advanceTimersByTimeAsync(1000)
  expect(done).toEqual(['suspend b', 'destroy b'])
})

test('a machine that could not be suspended is tried again', async () => {
  using keeper = openKeeper()
  failing = true
  keeper.keep('a', inMs(HOUR_MS))
  await vi.advanceTimersByTimeAsync(2000)
  failing = false
  await vi.advanceTimersByTimeAsync(5000)
  expect(done).toEqual(['suspend a', 'suspend a', 'suspend a'])
})

test('times beyond what a timer can wait for are kept; idleness is not minded where it is switched off', async () => {
  using keeper = openKeeper(0)
  keeper.keep('a', inMs(60 * 24 * HOUR_MS))
  await vi.advanceTimersByTimeAsync(59 * 24 * HOUR_MS)
  expect(done).toEqual([])
  await vi.advanceTimersByTimeAsync(24 * HOUR_MS)
  expect(done).toEqual(['destroy a'])
})

test("a kept machine is kept for as long as was promised, whatever the host's clock is set to", async () => {
  using keeper = openKeeper(0)
  keeper.keep('a', inMs(30 * HOUR_MS))
  vi.setSystemTime(Date.now() + 5 * HOUR_MS)
  await vi.advanceTimersByTimeAsync(29 * HOUR_MS)
  vi.setSystemTime(Date.now() - 9 * HOUR_MS)
  expect(done).toEqual([])
  await vi.advanceTimersByTimeAsync(HOUR_MS)
  expect(done).toEqual(['destroy a'])
})
