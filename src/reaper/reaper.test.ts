import { expect, test } from 'vitest'
import type { Logger } from '../telemetry/types.ts'
import { Reaper } from './reaper.ts'
import type { FoundLeak } from './types.ts'

/** A place in which the test leaves things, and a reaper that looks into it. */
function setUp() {
  const there = new Map<string, () => Promise<void>>()
  const said: string[] = []
  const note = (_: unknown, message?: string) => void said.push(message ?? '')
  const log: Logger = { debug: note, info: note, warn: note, error: note, child: () => log }
  const source = async () =>
    [...there].map(([what, fail]): FoundLeak => ({
      kind: 'file',
      what,
      why: 'test',
      async remove() {
        await fail()
        there.delete(what)
      },
    }))
  const reaper = new Reaper({ sources: [source], everyMs: 1, log })
  const leave = (what: string, fail = async () => {}) => there.set(what, fail)
  return { there, said, reaper, leave, source, log }
}

test('what is found twice in a row is removed, what was there for a moment is not', async () => {
  const { there, reaper, leave, said } = setUp()
  leave('left')
  leave('passing')
  await reaper.sweep()
  there.delete('passing')
  expect(await reaper.leaks()).toMatchObject([{ kind: 'file', what: 'left', why: 'test' }])
  await reaper.sweep()
  expect(there.size).toBe(0)
  leave('passing')
  await reaper.sweep()
  expect([...there.keys()]).toEqual(['passing'])
  expect(said).toEqual(['removed what nobody owned any more'])
})

test('what can not be removed is said once, tried again each time, and keeps nothing else', async () => {
  const { there, reaper, leave, said } = setUp()
  let tries = 0
  leave('stuck', async () => {
    tries += 1
    if (tries < 4) throw new Error('busy')
  })
  leave('left')
  for (let n = 0; n < 4; n++) await reaper.sweep()
  expect([...there.keys()]).toEqual(['stuck'])
  expect(said).toEqual(['what nobody owns any more could not be removed', 'removed what nobody owned any more'])
  const [stuck] = await reaper.leaks()
  expect(Date.parse(stuck?.since ?? '')).toBeLessThanOrEqual(Date.now())
  await reaper.sweep()
  expect(there.size).toBe(0)
})

test('a place that can not be looked into is said once, and the others are looked into all the same', async () => {
  const { there, leave, said, source, log } = setUp()
  const broken = async () => Promise.reject(new Error('no such place'))
  const reaper = new Reaper({ sources: [broken, source], everyMs: 1, log })
  leave('left')
  await reaper.sweep()
  await reaper.sweep()
  expect(there.size).toBe(0)
  expect(said.filter((message) => message.includes('looked for'))).toHaveLength(1)
})

test('it removes what it finds at its start, and looks by itself until its end', async () => {
  const { there, reaper, leave } = setUp()
  {
    await using running = reaper
    leave('before')
    await running.begin()
    expect(there.size).toBe(0)
    leave('left')
    await expect.poll(() => there.size).toBe(0)
  }
  leave('later')
  await reaper.leaks()
  expect(there.size).toBe(1)
})
