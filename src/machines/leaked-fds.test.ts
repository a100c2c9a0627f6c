import { spawnSync } from 'node:child_process'
import { openSync, closeSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { leakedFds } from './leaked-fds.ts'

test('what was inherited is told from what we opened ourselves', async () => {
  const own = openSync('/dev/null', 'r')
  expect(await leakedFds()).not.toContain(own)
  const module = fileURLToPath(new URL('leaked-fds.ts', import.meta.url))
  const script = `const { leakedFds } = await import(${JSON.stringify(module)}); console.log(JSON.stringify(await leakedFds()))`
  const stdio = ['ignore' as const, 'pipe' as const, 'inherit' as const, ...Array<'ignore'>(97).fill('ignore'), own]
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { stdio, encoding: 'utf8' })
  expect(JSON.parse(stdout)).toContain(100)
  closeSync(own)
})
