import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Grace } from './grace.ts'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

function setUp() {
  const cancelled: string[] = []
  const grace = new Grace(1000)
  const begin = (id: string) =>
    grace.begin(id, async () => {
      cancelled.push(id)
    })
  return { grace, begin, cancelled }
}

test('a task that nobody takes over is cancelled when its period ends, and not before', () => {
  const { grace, begin, cancelled } = setUp()
  begin('a')
  vi.advanceTimersByTime(999)
  expect(cancelled).toEqual([])
  vi.advanceTimersByTime(1)
  expect(cancelled).toEqual(['a'])
  expect(grace.takeOver('a')).toBe(false)
})

test('a task that is taken over goes on, and gets a whole period when it is left again', () => {
  const { grace, begin, cancelled } = setUp()
  begin('a')
  begin('b')
  vi.advanceTimersByTime(900)
  expect(grace.takeOver('a')).toBe(true)
  vi.advanceTimersByTime(5000)
  expect(cancelled).toEqual(['b'])
  begin('a')
  vi.advanceTimersByTime(999)
  expect(cancelled).toEqual(['b'])
  vi.advanceTimersByTime(1)
  expect(cancelled).toEqual(['b', 'a'])
})

test('a process that stops cancels nothing any more', () => {
  const { grace, begin, cancelled } = setUp()
  begin('a')
  grace.close()
  begin('b')
  vi.advanceTimersByTime(5000)
  expect(cancelled).toEqual([])
})
