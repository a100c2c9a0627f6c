import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { EgressLink, MODEL_WAIT_MS, WAIT_MS } from './session.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }))
afterEach(() => void vi.useRealTimers())

test.each([WAIT_MS, MODEL_WAIT_MS])('a request waits %i ms for a way out, and no longer', async (waitMs) => {
  const link = new EgressLink()
  const given: unknown[] = []
  void link.session(waitMs).then((session) => given.push(session))
  await vi.advanceTimersByTimeAsync(waitMs - 1)
  expect(given).toEqual([])
  await vi.advanceTimersByTimeAsync(1)
  expect(given).toEqual([undefined])
})

test('what passes while the machine is parked does not count', async () => {
  const link = new EgressLink()
  const given: unknown[] = []
  void link.session(WAIT_MS).then((session) => given.push(session))
  await vi.advanceTimersByTimeAsync(WAIT_MS - 1)
  link.hold()
  await vi.advanceTimersByTimeAsync(WAIT_MS * 10)
  link.release()
  await vi.advanceTimersByTimeAsync(WAIT_MS - 1)
  expect(given).toEqual([])
  await vi.advanceTimersByTimeAsync(1)
  expect(given).toEqual([undefined])
})
