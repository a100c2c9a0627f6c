import { expect, test } from 'vitest'
import { lastLines } from './console-text.ts'

test('what a guest writes to its console is shown without escapes, cut and in one line', () => {
  const console = `boot\r\n\u001B[31mred\u001B[0m \u0007bell\r\n\r\n${'x'.repeat(1000)}\n`
  expect(lastLines(console, 2)).toBe(`red bell | ${'x'.repeat(200)}`)
  expect(lastLines('', 3)).toBe('')
})
