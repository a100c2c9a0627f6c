import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { sql } from 'kysely'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { ApiKey, NewApiKey, User } from '../contracts/user.ts'
import { openDatabase, type Database } from '../store/database.ts'
import { newApiKey } from './api-key.ts'
import { createIdentity } from './identity.ts'
import type { Identity } from './types.ts'

let database: Database
let identity: Identity

beforeEach(async () => {
  database = await openDatabase(':memory:')
  identity = createIdentity(database)
})

afterEach(async () => {
  vi.useRealTimers()
  await database.destroy()
})

test('the first start makes an owner and shows its key once', async () => {
  const first = await identity.ensureOwner()
  expect(User.parse(first.user)).toEqual(first.user)
  expect(first.key).toMatch(/^vv_[0-9a-hjkmnp-tv-z]{32}$/)
  expect(await identity.ensureOwner()).toEqual({ user: first.user })
  expect(await identity.authenticate(first.key ?? '')).toEqual(first.user)
  expect(identity.isOwner(first.user.id)).toBe(true)
  expect(createIdentity(database).isOwner(first.user.id)).toBe(false)
})

test('of several starts at once in one process, one makes the owner', async () => {
  const made = await Promise.all(Array.from({ length: 5 }, () => identity.ensureOwner()))
  expect(made.filter(({ key }) => key !== undefined)).toHaveLength(1)
  expect(new Set(made.map(({ user }) => user.id)).size).toBe(1)
})

test('of several orchestrators that open a new database at once, one makes the owner', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'vivarium-identity-'))
  // Threads share no lock of ours, only the file, and each blocks while it waits, as a process of its own does.
  const start = `
    const { parentPort, workerData } = require('node:worker_threads')
    const run = async () => {
      const { openDatabase } = await import(workerData.store)
      const { createIdentity } = await import(workerData.identity)
      parentPort.postMessage('loaded')
      await new Promise((resolve) => parentPort.once('message', resolve))
      await using database = await openDatabase(workerData.path)
      parentPort.postMessage(await createIdentity(database).ensureOwner())
    }
    run()`
  const workerData = {
    store: new URL('../store/database.ts', import.meta.url).href,
    identity: new URL('./identity.ts', import.meta.url).href,
    path: join(dir, 'test.db'),
  }
  const workers = Array.from({ length: 4 }, () => new Worker(start, { eval: true, workerData }))
  try {
    await Promise.all(workers.map((worker) => once(worker, 'message')))
    const answers = workers.map((worker) => once(worker, 'message'))
    for (const worker of workers) worker.postMessage('go')
    const made = (await Promise.all(answers)).map(([answer]) => answer as Awaited<ReturnType<Identity['ensureOwner']>>)
    expect(made.filter(({ key }) => key !== undefined)).toHaveLength(1)
    expect(new Set(made.map(({ user }) => user.id)).size).toBe(1)
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()))
    await rm(dir, { recursive: true, force: true })
  }
})

test('a key opens the account of its user until it is removed', async () => {
  const ada = await identity.createUser('ada')
  const made = await identity.createKey(ada.id, 'laptop')
  expect(NewApiKey.parse(made)).toEqual(made)
  expect(await identity.authenticate(made.key)).toEqual(ada)
  await identity.removeKey(made.id)
  expect(await identity.authenticate(made.key)).toBeUndefined()
  await expect(identity.removeKey(made.id)).rejects.toMatchObject({ code: 'not_found' })
})

test.each(['', 'vv_', newApiKey(), 'x'.repeat(1_000_000), "vv_' OR 1=1 --", 'vv_\0'])(
  'a key that was never made opens nothing',
  async (key) => {
    await identity.ensureOwner()
    expect(await identity.authenticate(key)).toBeUndefined()
  },
)

test('the key itself is neither stored nor listed', async () => {
  const { key = '' } = await identity.ensureOwner()
  const [row] = await database.selectFrom('apiKeys').selectAll().execute()
  expect(JSON.stringify(row)).not.toContain(key)
  const [listed] = await identity.listKeys()
  expect(ApiKey.strict().parse(listed)).toEqual(listed)
  expect(key.startsWith(listed?.prefix ?? 'none')).toBe(true)
  expect(listed?.prefix.length).toBeLessThan(12)
})

test('the use of a key is noted at most once a minute', async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: new Date('2026-01-01T00:00:00.000Z') })
  const { key = '' } = await identity.ensureOwner()
  const lastUsedAt = async () => (await identity.listKeys())[0]?.lastUsedAt
  expect(await lastUsedAt()).toBeNull()
  await identity.authenticate(key)
  expect(await lastUsedAt()).toBe('2026-01-01T00:00:00.000Z')
  vi.setSystemTime('2026-01-01T00:00:59.000Z')
  await identity.authenticate(key)
  expect(await lastUsedAt()).toBe('2026-01-01T00:00:00.000Z')
  vi.setSystemTime('2026-01-01T00:01:00.000Z')
  await identity.authenticate(key)
  expect(await lastUsedAt()).toBe('2026-01-01T00:01:00.000Z')
})

test('a name is taken once', async () => {
  await identity.createUser('ada')
  await expect(identity.createUser('ada')).rejects.toMatchObject({ code: 'conflict', field: 'name' })
  expect(await identity.listUsers()).toHaveLength(1)
})

test('removing a user removes its keys and nobody else', async () => {
  const [ada, bob] = [await identity.createUser('ada'), await identity.createUser('bob')]
  const [a, b] = [await identity.createKey(ada.id, 'a'), await identity.createKey(bob.id, 'b')]
  expect(await identity.listKeys(ada.id)).toHaveLength(1)
  await identity.removeUser(ada.id)
  expect(await identity.authenticate(a.key)).toBeUndefined()
  expect(await identity.authenticate(b.key)).toEqual(bob)
  expect(await identity.listUsers()).toEqual([bob])
  expect((await identity.listKeys()).map(({ id }) => id)).toEqual([b.id])
  await expect(identity.removeUser(ada.id)).rejects.toMatchObject({ code: 'not_found' })
  await expect(identity.createKey(ada.id, 'late')).rejects.toMatchObject({ code: 'not_found' })
})

test('the owner cannot be removed', async () => {
  const { user, key = '' } = await identity.ensureOwner()
  await expect(identity.removeUser(user.id)).rejects.toMatchObject({ code: 'forbidden' })
  expect(await identity.authenticate(key)).toEqual(user)
})

test('who has a key gets in also when the database takes no writes', async () => {
  const { user, key = '' } = await identity.ensureOwner()
  await sql`PRAGMA query_only = ON`.execute(database)
  expect(await identity.authenticate(key)).toEqual(user)
  await expect(identity.createUser('ada')).rejects.toMatchObject({ code: 'storage_failed' })
})
