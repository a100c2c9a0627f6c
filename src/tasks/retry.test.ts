import { expect, test } from 'vitest'
import type { ErrorCode } from '../contracts/errors.ts'
import { backOffMs, mayRunAgain } from './retry.ts'

const FRESH = { requeue: false, attempts: 1, begun: false }
const failed = (code: ErrorCode) => ({ failure: { code, message: '' } })

test.each(['boot_failed', 'engine_failed', 'guest_lost', 'interrupted'] as const)(
  'after %s a task runs again, unless its agent was started; then only if its user wants that',
  (code) => {
    expect(mayRunAgain(failed(code), FRESH, 2)).toBe(true)
    expect(mayRunAgain(failed(code), { ...FRESH, begun: true }, 2)).toBe(false)
    expect(mayRunAgain(failed(code), { ...FRESH, begun: true, requeue: true }, 2)).toBe(true)
  },
)

test.each(['cancelled', 'timed_out', 'machine_destroyed', 'agent_failed', 'conflict', 'storage_failed'] as const)(
  'after %s a task does not run again, whatever its user wants',
  (code) => {
    expect(mayRunAgain(failed(code), { ...FRESH, requeue: true }, 2)).toBe(false)
  },
)

test('what succeeded does not run again, and nothing does for ever', () => {
  expect(mayRunAgain({ failure: undefined }, { ...FRESH, requeue: true }, 2)).toBe(false)
  const runs = [1, 2, 3].map((attempts) => mayRunAgain(failed('boot_failed'), { ...FRESH, attempts, requeue: true }, 2))
  expect(runs).toEqual([true, true, false])
  expect(mayRunAgain(failed('boot_failed'), FRESH, 0)).toBe(false)
})

test('each pause is twice as long as the one before, up to a minute', () => {
  expect([1, 2, 3, 4, 5, 11].map((attempts) => backOffMs(attempts, 5000))).toEqual([
    5000, 10_000, 20_000, 40_000, 60_000, 60_000,
  ])
})
