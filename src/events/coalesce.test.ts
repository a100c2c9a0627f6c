import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { NewEvent } from '../contracts/event.ts'
import { createDeltaCoalescer } from './coalesce.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const delta = (text: string, more: { kind?: 'thinking' | 'text'; parentToolUseId?: string } = {}): NewEvent => ({
  type: 'delta',
  kind: 'text',
  text,
  ...more,
})
const whole: NewEvent = { type: 'text', text: 'whole' }

function setUp() {
  const appends: NewEvent[][] = []
  const append = vi.fn(async (events: NewEvent[]) => void appends.push(events))
  return { appends, append, writer: createDeltaCoalescer({ append }) }
}

test('neighbouring deltas become one event after the window', async () => {
  const { appends, writer } = setUp()
  for (const text of ['Hel', 'lo', ' world']) await writer.write([delta(text)])
  expect(appends).toEqual([])
  await vi.advanceTimersByTimeAsync(60)
  expect(appends).toEqual([[delta('Hello world')]])
  await vi.advanceTimersByTimeAsync(1000)
  expect(appends).toHaveLength(1)
})

test('deltas of different kind or parent stay apart and in order', async () => {
  const { appends, writer } = setUp()
  const sub = { parentToolUseId: 'toolu_1' }
  await writer.write([delta('a', { kind: 'thinking' }), delta('b'), delta('c'), delta('d', sub), delta('e')])
  await writer.flush()
  expect(appends).toEqual([[delta('a', { kind: 'thinking' }), delta('bc'), delta('d', sub), delta('e')]])
})

test('any other event takes the waiting text with it, before itself, and what came with it', async () => {
  const { appends, writer } = setUp()
  await writer.write([delta('a')])
  await writer.write([delta('b'), whole, delta('c')])
  expect(appends).toEqual([[delta('ab'), whole, delta('c')]])
  await vi.advanceTimersByTimeAsync(60)
  expect(appends).toHaveLength(1)
})

test('a checkpoint is stored with the last of its events, never without', async () => {
  const stored: unknown[] = []
  const writer = createDeltaCoalescer({
    append: async (events, checkpoint) => stored.push([events, checkpoint]),
  })
  await writer.write([delta('a')], { at: 1 })
  await writer.write([delta('b')], { at: 2 })
  await writer.write([whole]) // somebody else's event
  await writer.write([whole, delta('c')], { at: 3 })
  await writer.write([], { at: 4 })
  await writer.write([whole])
  expect(stored).toEqual([
    [[delta('ab'), whole], { at: 2 }],
    [[whole, delta('c')], { at: 3 }],
    [[whole], { at: 4 }],
  ])
})

test('a flood of partial text does not wait', async () => {
  const { appends, writer } = setUp()
  await writer.write([delta('x'.repeat(40_000))])
  expect(appends).toHaveLength(1)
})

test('closing appends what waits', async () => {
  const { appends, writer } = setUp()
  {
    await using closing = writer
    await closing.write([delta('end')])
  }
  expect(appends).toEqual([[delta('end')]])
  expect(vi.getTimerCount()).toBe(0)
})

test('a failure in the background is told to the next caller, once', async () => {
  const { append, appends, writer } = setUp()
  append.mockRejectedValueOnce(new Error('disk full'))
  await writer.write([delta('lost')])
  await vi.advanceTimersByTimeAsync(60)
  await expect(writer.write([delta('next')])).rejects.toThrow('disk full')
  await writer.write([whole])
  expect(appends).toEqual([[delta('next'), whole]])
  append.mockRejectedValueOnce(new Error('disk full'))
  await expect(writer.write([whole])).rejects.toThrow('disk full')
})
