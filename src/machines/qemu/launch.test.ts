import { expect, test } from 'vitest'
import { describeExit } from './launch.ts'

test.each([
  [0, null, /^exit code 0$/],
  [1, null, /^exit code 1$/],
  [128 + 9, null, /^killed by SIGKILL .*memory/],
  [null, 'SIGKILL', /^killed by SIGKILL/],
  [128 + 6, null, /^killed by SIG(ABRT|IOT)$/],
  [200, null, /^exit code 200$/],
] as const)('an end with code %s and signal %s is told in words', (code, signal, words) => {
  expect(describeExit(code, signal)).toMatch(words)
})
