import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const MODULE = fileURLToPath(new URL('crash-points.ts', import.meta.url))
const PASS = `const { crashPoint } = await import(${JSON.stringify(MODULE)})
for (const name of ['task stored', 'task queued', 'task stored']) { crashPoint(name); console.log(name) }`

/** How a process ends that passes three points, and what it says before. */
function passed(at?: string): { signal: string | null; said: string[] } {
  const env = { PATH: process.env['PATH'], ...(at === undefined ? {} : { VIVARIUM_TEST_CRASH_AT: at }) }
  const { signal, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', PASS], { env, encoding: 'utf8' })
  return { signal, said: stdout.split('\n').slice(0, -1) }
}

test('a process is killed at the point that its environment names, the n-th time, and nowhere else', () => {
  expect(passed()).toEqual({ signal: null, said: ['task stored', 'task queued', 'task stored'] })
  expect(passed('task queued')).toEqual({ signal: 'SIGKILL', said: ['task stored'] })
  expect(passed('task stored:2')).toEqual({ signal: 'SIGKILL', said: ['task stored', 'task queued'] })
  expect(passed('run started')).toEqual({ signal: null, said: ['task stored', 'task queued', 'task stored'] })
})
