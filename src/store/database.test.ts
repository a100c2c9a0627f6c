import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql, type Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openDatabase } from './database.ts'
import { MIGRATIONS } from './migrations/index.ts'

let dir: string
let path: string

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vivarium-store-'))
  path = join(dir, 'test.db')
})

afterEach(() => rm(dir, { recursive: true, force: true }))

const user = (name: string) => ({ id: `u_${name}`, name, isOwner: 0, createdAt: new Date(0).toISOString() })

const addsColor: Migration = {
  up: async (db: Kysely<unknown>) => db.schema.alterTable('users').addColumn('color', 'text').execute(),
}

test('transactions begun at once do not mix', async () => {
  await using database = await openDatabase(':memory:')
  const failing = database.transaction().execute(async (trx) => {
    await trx.insertInto('users').values(user('rolled-back')).execute()
    await new Promise((resolve) => setTimeout(resolve, 20))
    throw new Error('roll back')
  })
  const passing = database.transaction().execute(async (trx) => {
    await trx.insertInto('users').values(user('kept')).execute()
  })
  const [failed, passed] = await Promise.allSettled([failing, passing])
  expect([failed.status, passed.status]).toEqual(['rejected', 'fulfilled'])
  expect(await database.selectFrom('users').select('name').execute()).toEqual([{ name: 'kept' }])
})

test('a query outside a transaction neither sees nor joins what it has not committed', async () => {
  await using database = await openDatabase(':memory:')
  const inside = Promise.withResolvers<void>()
  const failing = database.transaction().execute(async (trx) => {
    await trx.insertInto('users').values(user('rolled-back')).execute()
    inside.resolve()
    await new Promise((resolve) => setTimeout(resolve, 20))
    throw new Error('roll back')
  })
  await inside.promise
  const outside = database.insertInto('users').values(user('kept')).execute()
  const seen = database.selectFrom('users').select('name').execute()
  await expect(failing).rejects.toThrow('roll back')
  await outside
  expect(await seen).toEqual([{ name: 'kept' }])
})

test('a transaction that the database itself has ended says why', async () => {
  await using database = await openDatabase(':memory:')
  await expect(
    database.transaction().execute(async (trx) => {
      await trx.insertInto('users').values(user('a')).execute()
      await sql`INSERT OR ROLLBACK INTO users (id, name, is_owner, created_at) VALUES ('u_a', 'b', 0, '')`.execute(trx)
    }),
  ).rejects.toThrow(/UNIQUE/)
  expect(await database.selectFrom('users').selectAll().execute()).toEqual([])
})

test('an older database is brought up to date and keeps what it holds', async () => {
  {
    await using old = await openDatabase(path)
    await old.insertInto('users').values(user('ada')).execute()
  }
  await using database = await openDatabase(path, { ...MIGRATIONS, '9999-color': addsColor })
  expect(await database.selectFrom('users').selectAll().execute()).toEqual([{ ...user('ada'), color: null }])
})

test('a migration that fails changes nothing', async () => {
  await (await openDatabase(path)).destroy()
  const fails: Migration = {
    async up(db) {
      await addsColor.up(db)
      throw new Error('half way')
    },
  }
  await expect(openDatabase(path, { ...MIGRATIONS, '9999-fails': fails })).rejects.toThrow(/half way/)
  await using database = await openDatabase(path, { ...MIGRATIONS, '9999-color': addsColor })
  expect(await database.selectFrom('users').selectAll().execute()).toEqual([])
})

test('a newer database is refused with what to do', async () => {
  await (await openDatabase(path, { ...MIGRATIONS, '9999-color': addsColor })).destroy()
  await expect(openDatabase(path)).rejects.toMatchObject({
    code: 'storage_failed',
    message: expect.stringMatching(/newer Vivarium.*9999-color.*Start that version/),
  })
})

test('a corrupt file and a missing folder are refused with their path', async () => {
  await writeFile(path, 'this is no database, only text that is longer than a header'.repeat(50))
  await expect(openDatabase(path)).rejects.toMatchObject({
    code: 'storage_failed',
    message: expect.stringContaining(path),
  })
  await expect(openDatabase(join(dir, 'no', 'folder.db'))).rejects.toMatchObject({ code: 'storage_failed' })
})

test('nobody but the owner of the file can read it', async () => {
  await using database = await openDatabase(path)
  await database.insertInto('users').values(user('ada')).execute()
  for (const file of [path, `${path}-wal`]) expect((await stat(file)).mode & 0o777).toBe(0o600)
})
