import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { abandonedIn, isAbandoned, ownTag, passingName } from './owner.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vivarium-owner-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** The tag of a process that has ended. */
async function tagOfTheDead(): Promise<string> {
  const child = spawn('sleep', ['0'])
  await once(child, 'exit')
  const [namespace, , , random] = (await ownTag()).split('-')
  return [namespace, (child.pid ?? 0).toString(36), '1', random].join('-')
}

test('what a killed process was making is told from what is being made, and from what only looks alike', async () => {
  const mine = await passingName(join(folder, 'disk.ext4'))
  const dead = `.disk.ext4.${await tagOfTheDead()}`
  for (const name of [basename(mine), dead, 'disk.ext4', '.hidden', `visible.${await tagOfTheDead()}`])
    await writeFile(join(folder, name), '')
  expect(await abandonedIn(folder)).toEqual([join(folder, dead)])
  expect(await abandonedIn(join(folder, 'missing'))).toEqual([])
})

test('the same pid with another start time is somebody else', async () => {
  const [namespace, pid, startTime, random] = (await ownTag()).split('-')
  const other = [namespace, pid, `${startTime}1`, random].join('-')
  expect(await isAbandoned(join(folder, `.x.${other}`))).toBe(true)
})

test('what belongs to a process of another container is left alone, until nobody has touched it for two days', async () => {
  const [, ...rest] = (await tagOfTheDead()).split('-')
  const path = join(folder, `.x.${['1', ...rest].join('-')}`)
  await writeFile(path, '')
  expect(await isAbandoned(path)).toBe(false)
  const before = new Date(Date.now() - 3 * 24 * 3_600_000)
  await utimes(path, before, before)
  expect(await isAbandoned(path)).toBe(true)
})
