import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { identify, isRunning, killProcess, parseStat, processesNamed } from './process-identity.ts'

const REST = 'S 17 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 2000'

test.each(['sleep', 'a b', 'x) S 1 (', ') R 2 3', ''])(
  'a process named %j is read right from its stat line',
  (name) => {
    expect(parseStat(`42 (${name}) ${REST}`)).toEqual({ pid: 42, parent: 17, startTime: 987654, zombie: false })
  },
)

test('a zombie counts as ended, a garbled line as no process', () => {
  expect(parseStat(`42 (x) ${REST.replace('S', 'Z')}`)?.zombie).toBe(true)
  expect(parseStat('')).toBeUndefined()
  expect(parseStat('42 (x) S 1')).toBeUndefined()
})

test('a pid with another start time is somebody else and is not killed', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  const identity = await identify(child.pid ?? 0)
  expect(identity?.pid).toBe(child.pid)
  if (identity === undefined) return
  const other = { ...identity, startTime: identity.startTime + 1 }
  expect([await isRunning(identity), await isRunning(other)]).toEqual([true, false])
  await killProcess(other)
  expect(await isRunning(identity)).toBe(true)
  await killProcess(identity)
  expect(await ended).toEqual([null, 'SIGKILL'])
  expect(await isRunning(identity)).toBe(false)
  await killProcess(identity)
})

test('processes are found by a whole argument, not by a part of one', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)', 'vivarium-vm_test'], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  await once(child, 'spawn')
  expect((await processesNamed('vivarium-vm_test')).map(({ pid }) => pid)).toContain(child.pid)
  expect(await processesNamed('vivarium-vm_tes')).toEqual([])
  child.kill()
  await ended
})
