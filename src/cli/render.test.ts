import { expect, test } from 'vitest'
import { palette } from './colour.ts'
import { formatBytes, renderEvent, table } from './render.ts'

const at = '2026-01-01T00:00:00.000Z'
const envelope = { seq: 1, taskId: 't_000000000000', at }

test('escape sequences in guest output can not reach the terminal', () => {
  const line = renderEvent({ ...envelope, type: 'raw', text: 'a\u001b]0;title\u0007b\u009b31mc' }, palette(false))
  expect(line).toBe('a\\x1b]0;title\\x07b\\x9b31mc')
})

test('a tool call shows its command, a long result is cut', () => {
  const call = renderEvent(
    { ...envelope, type: 'tool_call', toolUseId: 'x', name: 'Bash', input: { command: 'ls -l' } },
    palette(false),
  )
  expect(call).toBe('▶ Bash ls -l')
  const result = renderEvent(
    { ...envelope, type: 'tool_result', toolUseId: 'x', text: 'y'.repeat(5000), isError: false },
    palette(false),
  )
  expect(result?.length).toBeLessThan(2100)
})

test('deltas, usage and debug lines take no line', () => {
  expect(renderEvent({ ...envelope, type: 'delta', kind: 'text', text: 'x' }, palette(false))).toBeUndefined()
  expect(renderEvent({ ...envelope, type: 'log', level: 'debug', message: 'x' }, palette(false))).toBeUndefined()
})

test('columns line up and sizes are readable', () => {
  expect(
    table([
      ['ID', 'STATE'],
      ['t_1', 'queued'],
    ]),
  ).toBe('ID   STATE\nt_1  queued')
  expect([0, 1023, 1536, 5 * 1024 ** 3].map(formatBytes)).toEqual(['0 B', '1023 B', '1.5 KiB', '5.0 GiB'])
})
