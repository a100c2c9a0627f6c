import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Logger } from '../telemetry/types.ts'
import { openDataFolder, type DataFolderOptions } from './data-folder.ts'
import { openDatabase } from './database.ts'
import { canMount, mountSmallDisk } from './testing/small-disk.ts'

let home: string
let said: string[]
const log: Logger = {
  debug() {},
  info: (_data: unknown, message?: string) => void said.push(message ?? ''),
  warn() {},
  error: (_data: unknown, message?: string) => void said.push(message ?? ''),
  child: () => log,
}

beforeEach(async () => {
  said = []
  home = await mkdtemp(join(tmpdir(), 'vivarium-home-'))
  await writeFile(join(home, 'anchor'), '')
})

afterEach(() => rm(home, { recursive: true, force: true }))

const open = (options: Partial<DataFolderOptions> = {}) =>
  openDataFolder({ home, anchor: 'anchor', minFreeBytes: 0, patienceMs: 60_000, log, ...options })

/** Fails as often as it is told to, then succeeds. */
function failing(error: Error, times = Infinity) {
  const work = async () => {
    work.attempts += 1
    if (work.attempts <= times) throw error
    return 'done'
  }
  work.attempts = 0
  return work
}

const full = Object.assign(new Error('database or disk is full'), { code: 'ERR_SQLITE_ERROR', errcode: 13 })
const readOnly = Object.assign(new Error('attempt to write a readonly database'), { errcode: 8 })
const constraint = Object.assign(new Error('UNIQUE constraint failed'), { errcode: 1555 })

test('a write that the disk refuses is made when the disk takes it, and the log hears of both once', async () => {
  using storage = await open()
  const work = failing(new Error("Events can't be stored: the disk is full", { cause: full }), 2)
  const changes: boolean[] = []
  storage.watch(() => changes.push(storage.holdsBack))
  const done = storage.persist(work)
  await expect.poll(() => storage.holdsBack).toBe(true)
  expect(await storage.problem()).toContain('full')
  expect(await done).toBe('done')
  expect([storage.holdsBack, await storage.problem(), work.attempts]).toEqual([false, undefined, 3])
  expect(changes).toContain(true)
  expect(changes.at(-1)).toBe(false)
  expect(said).toEqual([expect.stringContaining("can't be written"), 'the data folder can be written again'])
})

test('a read-only disk is waited for, what is wrong with the write itself is not', async () => {
  using storage = await open()
  expect(await storage.persist(failing(readOnly, 1))).toBe('done')
  const wrong = failing(constraint)
  await expect(storage.persist(wrong)).rejects.toBe(constraint)
  expect(wrong.attempts).toBe(1)
})

test('patience has an end, and a shutdown has none', async () => {
  using storage = await open({ patienceMs: 250 })
  await expect(storage.persist(failing(full))).rejects.toBe(full)
  expect(storage.holdsBack).toBe(false)
  using closing = await open()
  const waiting = closing.persist(failing(full))
  await expect.poll(() => closing.holdsBack).toBe(true)
  closing.hurry()
  await expect(waiting).rejects.toBe(full)
})

test('a data folder that is moved away is missed, and nothing is written until it is back', async () => {
  using storage = await open()
  const elsewhere = `${home}-elsewhere`
  await rename(home, elsewhere)
  expect(await storage.problem()).toContain('is gone')
  const work = failing(full, 0)
  const done = storage.persist(work)
  await expect.poll(() => storage.holdsBack).toBe(true)
  expect(work.attempts).toBe(0)
  await rename(elsewhere, home)
  expect(await done).toBe('done')
  expect(await storage.problem()).toBeUndefined()
})

test.skipIf(!canMount)('a disk with little left says so before it is full, and recovers by itself', async () => {
  using disk = mountSmallDisk({ kib: 4096 })
  await writeFile(join(disk.path, 'anchor'), '')
  using storage = await open({ home: disk.path, minFreeBytes: 2 * 1024 ** 2 })
  expect(await storage.problem()).toBeUndefined()
  disk.fill()
  expect(await storage.problem()).toMatch(/is full: 0 MiB are free, 2 are needed/)
  disk.makeRoom()
  expect(await storage.problem()).toBeUndefined()
})

test.skipIf(!canMount)('a read-only data folder is refused at start with a sentence', async () => {
  using disk = mountSmallDisk({ kib: 1024, readOnly: true })
  await expect(openDatabase(join(disk.path, 'vivarium.db'))).rejects.toMatchObject({
    code: 'storage_failed',
    message: expect.stringMatching(/can't be opened.*read-only file system/s),
  })
})
