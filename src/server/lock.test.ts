import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { isLocked, lockDataFolder } from './lock.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'vivarium-lock-'))
})
afterEach(() => rmSync(home, { recursive: true }))

test('a second orchestrator on one data folder is refused, and let in once the first has gone', () => {
  const first = lockDataFolder(home)
  expect(() => lockDataFolder(home)).toThrow(/Another orchestrator already runs/)
  first[Symbol.dispose]()
  lockDataFolder(home)[Symbol.dispose]()
})

test('whether an orchestrator runs can be seen without disturbing it', () => {
  expect(isLocked(home)).toBe(false)
  const lock = lockDataFolder(home)
  expect(isLocked(home)).toBe(true)
  expect(isLocked(home)).toBe(true)
  expect(() => lockDataFolder(home)).toThrow(/Another orchestrator/)
  lock[Symbol.dispose]()
  expect(isLocked(home)).toBe(false)
})

test('the lock dies with its process, even when that is killed', async () => {
  const module = JSON.stringify(fileURLToPath(new URL('lock.ts', import.meta.url)))
  const script = `const { lockDataFolder } = await import(${module}); lockDataFolder(${JSON.stringify(home)}); console.log('locked'); setInterval(() => {}, 1000)`
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(holder.stdout, 'data')
  expect(() => lockDataFolder(home)).toThrow(/Another orchestrator/)
  expect(isLocked(home)).toBe(true)
  holder.kill('SIGKILL')
  await once(holder, 'exit')
  expect(isLocked(home)).toBe(false)
  lockDataFolder(home)[Symbol.dispose]()
})
