import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ownTag } from '../files/owner.ts'
import { lockFile } from '../files/lock.ts'
import { lockDataFolder } from '../server/lock.ts'
import { openDatabase } from '../store/database.ts'
import { checkLeaks, removeLeaks } from './leaks.ts'

let base: string
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'vivarium-leaks-'))
})
afterEach(() => rm(base, { recursive: true }))

const folders = () => ({ home: join(base, 'home'), cacheDir: join(base, 'cache'), runDir: join(base, 'run') })

/** A name that a process chose that is gone. */
async function nameOfTheDead(prefix: string): Promise<string> {
  const [namespace, pid, , random] = (await ownTag()).split('-')
  return `${prefix}${[namespace, pid, '1', random].join('-')}`
}

test('a host without a server, or any data, has no leaks', async () => {
  expect(await checkLeaks(folders())).toEqual({
    name: 'leaks',
    status: 'ok',
    detail: 'none (no server runs)',
    fix: null,
  })
  await removeLeaks(folders())
  expect(existsSync(folders().home)).toBe(false)
})

test('what killed servers have left is named and removed; what is being made, and what is journaled, stays', async () => {
  const { home, cacheDir, runDir } = folders()
  const journaled = 'vm_111111111111'
  const leaks = [
    join(home, 'blobs/incoming/part'),
    join(home, 'payloads/staging/1.json'),
    join(home, await nameOfTheDead('.backup.')),
    join(home, 'machines/vm_222222222222/scratch.qcow2'),
    join(cacheDir, 'scratch', await nameOfTheDead('.empty.ext4.')),
    join(cacheDir, 'probes', await nameOfTheDead('.qemu.json.')),
    join(cacheDir, 'images/0123', await nameOfTheDead('.initrd.')),
    join(cacheDir, 'images/.build-1/root/etc'),
    join(cacheDir, 'templates', await nameOfTheDead('.new-'), 'memory'),
    join(cacheDir, 'templates/.old-0/memory'),
    join(runDir, 'vm_333333333333/control.sock'),
  ]
  const kept = [
    join(home, `.backup.${await ownTag()}`),
    join(home, 'blobs/objects/results/file'),
    join(home, 'machines', journaled, 'scratch.qcow2'),
    join(cacheDir, 'templates', `.new-${await ownTag()}`, 'memory'),
    join(cacheDir, 'images/0123/kernel'),
    join(runDir, journaled, 'control.sock'),
  ]
  for (const path of [...leaks, ...kept]) {
    await mkdir(join(path, '..'), { recursive: true })
    await writeFile(path, '')
  }
  {
    await using database = await openDatabase(join(home, 'vivarium.db'))
    const row = { uid: null, pid: null, startTime: null, engine: 'qemu-tcg', memoryMib: 1, vcpus: 1, createdAt: '' }
    const place = { runDir: join(runDir, journaled), diskDir: join(home, 'machines', journaled) }
    await database
      .insertInto('machines')
      .values({ id: journaled, userId: 'u', taskId: null, ...row, ...place })
      .execute()
  }
  const check = await checkLeaks(folders())
  expect(check).toMatchObject({ status: 'warning', fix: 'vivarium doctor --fix' })
  expect(check.detail).toContain("1 machine waits for the server's next start")
  {
    // An image is being built: its folder is its builder's.
    const lock = { code: 'internal', timeoutMs: 0, onWait: () => {}, signal: undefined } as const
    using _building = await lockFile(join(cacheDir, 'images/build.lock'), lock)
    expect((await checkLeaks(folders())).detail).not.toContain('.build-')
  }
  await removeLeaks(folders())
  expect(leaks.filter((path) => existsSync(path))).toEqual([])
  expect(kept.filter((path) => !existsSync(path))).toEqual([])
  expect(await checkLeaks(folders())).toMatchObject({ status: 'ok', detail: expect.stringMatching(/^none/) })
})

test('while a server runs, it is asked, and nothing is removed behind its back', async () => {
  const { home } = folders()
  await mkdir(join(home, 'blobs/incoming'), { recursive: true })
  await writeFile(join(home, 'blobs/incoming/upload'), '')
  using _server = lockDataFolder(home)
  expect(await checkLeaks(folders())).toMatchObject({
    status: 'warning',
    detail: expect.stringContaining('on its way'),
  })
  await removeLeaks(folders())
  expect(existsSync(join(home, 'blobs/incoming/upload'))).toBe(true)
})
