import { mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newId } from '../contracts/ids.ts'
import { openDatabase, type Database } from '../store/database.ts'
import type { Logger } from '../telemetry/types.ts'
import { importCredentials } from './import.ts'
import { createKeyFile, type KeyFile } from './key-file.ts'
import type { GivenKeys } from './master-key.ts'
import { newKey } from './seal.ts'
import type { Vault } from './types.ts'
import { openVault } from './vault.ts'

const VALUE = 'sk-ant-api03-value-of-ada'
const NOTHING: GivenKeys = { masterKey: undefined, previousMasterKey: undefined, directory: undefined }
const USE = { purpose: 'anthropic', machineId: newId('vm'), taskId: newId('t') }
const ALL_LINES = { limit: 1000 }

const ada = newId('u')
const bob = newId('u')

let dir: string
let database: Database
let logged: string[]
let stack: AsyncDisposableStack

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  dir = await mkdtemp(join(tmpdir(), 'vivarium-vault-'))
  stack.defer(() => rm(dir, { recursive: true, force: true }))
  database = await openDatabase(join(dir, 'test.db'))
  stack.defer(() => database.destroy())
  logged = []
  const at = new Date().toISOString()
  await database
    .insertInto('users')
    .values([
      { id: ada, name: 'ada', isOwner: 1, createdAt: at },
      { id: bob, name: 'bob', isOwner: 0, createdAt: at },
    ])
    .execute()
})

afterEach(() => stack.disposeAsync())

const note = (...parts: unknown[]) => void logged.push(parts.map((part) => JSON.stringify(part)).join(' '))
const log: Logger = { debug: note, info: note, warn: note, error: note, child: () => log }

const keyPath = () => join(dir, 'master.key')

/** A start of the server: opens the vault of the data folder. */
function start(over: { given?: Partial<GivenKeys>; keyFile?: KeyFile; forgetSecrets?: boolean } = {}): Promise<Vault> {
  return openVault({
    database,
    keyFile: over.keyFile ?? createKeyFile(keyPath()),
    given: { ...NOTHING, ...over.given },
    forgetSecrets: over.forgetSecrets ?? false,
    log,
  })
}

/** Everything at rest, byte for byte. */
async function atRest(): Promise<string> {
  await sql`PRAGMA wal_checkpoint(TRUNCATE)`.execute(database)
  return (await readFile(join(dir, 'test.db'))).toString('latin1')
}

test('a secret is used by its user and stands nowhere but encrypted', async () => {
  {
    await using vault = await start()
    const info = await vault.set({ userId: ada, name: 'github' }, VALUE, ada)
    expect(info).toMatchObject({ name: 'github', userId: ada, version: 1, lastUsedAt: null })
    expect(vault.use(ada, 'github', USE)).toBe(VALUE)
    expect(vault.use(bob, 'github', USE)).toBeUndefined()
    expect(JSON.stringify([await vault.list(), await vault.audit(ALL_LINES), logged])).not.toContain(VALUE)
  }
  const stored = await atRest()
  expect(stored).toContain('github')
  for (const form of [VALUE, Buffer.from(VALUE).toString('base64url'), Buffer.from(VALUE).toString('hex')])
    expect(stored).not.toContain(form)
  await using again = await start()
  expect(again.use(ada, 'github', USE)).toBe(VALUE)
  expect((await stat(keyPath())).mode & 0o777).toBe(0o600)
})

test("a user's own secret wins over the shared one, and a change counts at once", async () => {
  await using vault = await start()
  const used = () => [vault.use(ada, 'npm', USE), vault.use(bob, 'npm', USE)]
  await vault.set({ userId: null, name: 'npm' }, 'for-all', ada)
  expect(used()).toEqual(['for-all', 'for-all'])
  await vault.set({ userId: bob, name: 'npm' }, 'of-bob', bob)
  expect(used()).toEqual(['for-all', 'of-bob'])
  expect([vault.scope(ada, 'npm'), vault.scope(bob, 'npm'), vault.scope(bob, 'other')]).toEqual([
    'shared',
    'own',
    undefined,
  ])
  expect((await vault.set({ userId: bob, name: 'npm' }, 'of-bob-2', bob)).version).toBe(2)
  expect(used()).toEqual(['for-all', 'of-bob-2'])
  await vault.remove({ userId: bob, name: 'npm' }, bob)
  expect(used()).toEqual(['for-all', 'for-all'])
  await expect(vault.remove({ userId: bob, name: 'npm' }, bob)).rejects.toMatchObject({ code: 'not_found' })
  await expect(vault.set({ userId: newId('u'), name: 'npm' }, 'x', ada)).rejects.toMatchObject({ code: 'not_found' })
})

test('the secrets of a user go with the user', async () => {
  await using vault = await start()
  await vault.set({ userId: bob, name: 'github' }, VALUE, bob)
  await database.deleteFrom('users').where('id', '=', bob).execute()
  vault.forgetUser(bob)
  expect(vault.use(bob, 'github', USE)).toBeUndefined()
  expect(await vault.list()).toEqual([])
})

test.each([
  ['another user', { userId: bob }],
  ['another name', { name: 'gitlab' }],
  ['an older version', { version: 7 }],
])('a row that is moved to %s does not open, and the others still do', async (_what, moved) => {
  {
    await using vault = await start()
    await vault.set({ userId: ada, name: 'github' }, VALUE, ada)
    await vault.set({ userId: ada, name: 'kept' }, 'kept-value', ada)
  }
  await database.updateTable('secrets').set(moved).where('name', '=', 'github').execute()
  await using vault = await start()
  const row = { userId: ada, name: 'github', ...moved }
  expect(() => vault.use(row.userId, row.name, USE)).toThrow(/was damaged or changed/)
  expect(vault.use(ada, 'kept', USE)).toBe('kept-value')
  expect(logged.join()).toContain(row.name)
})

test('values exchanged between two secrets are noticed', async () => {
  {
    await using vault = await start()
    await vault.set({ userId: ada, name: 'github' }, 'ada-value', ada)
    await vault.set({ userId: bob, name: 'github' }, 'bob-value', bob)
  }
  const [one, two] = await database.selectFrom('secrets').selectAll().execute()
  if (one === undefined || two === undefined) throw new Error('two rows expected')
  for (const [to, from] of [
    [one, two],
    [two, one],
  ] as const) {
    const { dataKey, value } = from
    await database.updateTable('secrets').set({ dataKey, value }).where('id', '=', to.id).execute()
  }
  await using vault = await start()
  for (const user of [ada, bob]) expect(() => vault.use(user, 'github', USE)).toThrow(/"github"/)
})

test('with the wrong master key, or none, the start is refused and nothing is changed', async () => {
  {
    await using vault = await start()
    await vault.set({ userId: ada, name: 'github' }, VALUE, ada)
  }
  const before = await atRest()
  const wrong = newKey().toString('base64')
  await expect(start({ given: { masterKey: wrong } })).rejects.toMatchObject({
    code: 'setup_required',
    message: expect.stringMatching(/VIVARIUM_MASTER_KEY\) does not open.*1 secret.*master\.key.*--forget-secrets/),
  })
  await rename(keyPath(), join(dir, 'elsewhere'))
  await expect(start()).rejects.toMatchObject({
    code: 'setup_required',
    message: expect.stringMatching(/no master key.*1 secret.*master\.key/),
  })
  expect(await readdir(dir)).not.toContain('master.key')
  expect(await atRest()).toBe(before)
  await rename(join(dir, 'elsewhere'), keyPath())
  await using vault = await start()
  expect(vault.use(ada, 'github', USE)).toBe(VALUE)
})

test('who has lost the key can give the secrets up, and begins anew', async () => {
  {
    await using vault = await start()
    await vault.set({ userId: ada, name: 'github' }, VALUE, ada)
  }
  await rm(keyPath())
  await using vault = await start({ forgetSecrets: true })
  expect(await vault.list()).toEqual([])
  await vault.set({ userId: ada, name: 'github' }, 'new', ada)
  expect(vault.use(ada, 'github', USE)).toBe('new')
  expect((await vault.audit(ALL_LINES)).map(({ action }) => action)).toEqual(['use', 'set', 'forget', 'set'])
})

test('the master key comes from systemd, before the environment, before the file', async () => {
  const [systemd, environment] = [newKey(), newKey()]
  const directory = await mkdtemp(join(dir, 'credentials-'))
  {
    await using vault = await start({ given: { masterKey: environment.toString('hex') } })
    await vault.set({ userId: ada, name: 'github' }, VALUE, ada)
    await expect(vault.rotate({ master: true }, ada)).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('VIVARIUM_PREVIOUS_MASTER_KEY'),
    })
  }
  expect(await readdir(dir)).not.toContain('master.key')
  await writeFile(join(directory, 'vivarium-master-key'), systemd)
  const both = { masterKey: environment.toString('hex'), directory }
  await expect(start({ given: both })).rejects.toThrow(/systemd credential.*does not open/)
  {
    // The way to another key from outside: once with both.
    await using vault = await start({ given: { ...both, previousMasterKey: environment.toString('base64url') } })
    expect(vault.use(ada, 'github', USE)).toBe(VALUE)
  }
  await using vault = await start({ given: { directory } })
  expect(vault.use(ada, 'github', USE)).toBe(VALUE)
})

test.each(['2short', 'z'.repeat(64), `${'a'.repeat(64)}\n${'b'.repeat(64)}`])(
  'what is no master key is refused without being repeated: %j',
  async (masterKey) => {
    const refused = await start({ given: { masterKey } }).catch((error: Error) => error)
    expect(refused).toMatchObject({ code: 'setup_required', message: expect.stringContaining('openssl rand -hex 32') })
    expect(String(refused)).not.toContain(masterKey)
  },
)

test('rotation encrypts everything anew and changes no value', async () => {
  await using vault = await start()
  await vault.set({ userId: ada, name: 'github' }, VALUE, ada)
  await vault.set({ userId: null, name: 'github' }, 'shared', ada)
  const rows = () => database.selectFrom('secrets').select(['dataKey', 'value']).execute()
  const file = () => readFile(keyPath(), 'utf8')
  for (const master of [false, true]) {
    const before = await Promise.all([rows(), file()])
    expect(await vault.rotate({ master }, ada)).toEqual({ secrets: 2, master })
    const after = await Promise.all([rows(), file()])
    expect(new Set([before[0], after[0]].flat().flatMap(Object.values)).size).toBe(8)
    expect(after[1] === before[1]).toBe(!master)
    expect([vault.use(ada, 'github', USE), vault.use(bob, 'github', USE)]).toEqual([VALUE, 'shared'])
    await using restarted = await start()
    expect(restarted.use(ada, 'github', USE)).toBe(VALUE)
  }
  expect((await readdir(dir)).filter((name) => name.startsWith('master'))).toEqual(['master.key'])
})

const STEPS = ['before stage', 'after stage', 'before promote', 'after promote'] as const

test.each(STEPS)('a rotation killed %s leaves a vault that opens, and can be rotated again', async (deadly) => {
  const real = createKeyFile(keyPath())
  const reached = Promise.withResolvers<void>()
  // What never goes on is as good as killed: nothing after it runs, no clean-up either.
  const killed = async <Result>(step: 'stage' | 'promote', work: () => Promise<Result>): Promise<Result> => {
    const stop = () => {
      reached.resolve()
      return new Promise<never>(() => undefined)
    }
    if (deadly === `before ${step}`) return stop()
    const result = await work()
    return deadly === `after ${step}` ? stop() : result
  }
  const keyFile: KeyFile = {
    ...real,
    stage: () => killed('stage', real.stage),
    promote: () => killed('promote', real.promote),
  }
  const dying = await start({ keyFile })
  await dying.set({ userId: ada, name: 'github' }, VALUE, ada)
  void dying.rotate({ master: true }, ada)
  await reached.promise

  {
    await using vault = await start()
    expect(vault.use(ada, 'github', USE)).toBe(VALUE)
    expect((await readdir(dir)).filter((name) => name.startsWith('master'))).toEqual(['master.key'])
    await vault.rotate({ master: true }, ada)
    expect(vault.use(ada, 'github', USE)).toBe(VALUE)
  }
  await using vault = await start()
  expect(vault.use(ada, 'github', USE)).toBe(VALUE)
})

test('no second copy of a key is left where its making was cut off', async () => {
  {
    await using vault = await start()
    await vault.set({ userId: ada, name: 'github' }, VALUE, ada)
  }
  for (const left of ['master.key.part', 'master.key.new.part']) await writeFile(join(dir, left), 'ab'.repeat(32))
  await using vault = await start()
  expect((await readdir(dir)).filter((name) => name.startsWith('master'))).toEqual(['master.key'])
  await vault.rotate({ master: true }, ada)
  expect(vault.use(ada, 'github', USE)).toBe(VALUE)
})

test('a rotation that fails in the middle of the store changes nothing and can be tried again', async () => {
  await using vault = await start()
  await vault.set({ userId: ada, name: 'a' }, 'one', ada)
  await vault.set({ userId: ada, name: 'b' }, 'two', ada)
  await sql`CREATE TRIGGER full BEFORE UPDATE ON secrets WHEN old.name = 'b' BEGIN SELECT RAISE(ABORT, 'disk full'); END`.execute(
    database,
  )
  await expect(vault.rotate({ master: true }, ada)).rejects.toMatchObject({ code: 'storage_failed' })
  {
    await using restarted = await start()
    expect([restarted.use(ada, 'a', USE), restarted.use(ada, 'b', USE)]).toEqual(['one', 'two'])
  }
  await sql`DROP TRIGGER full`.execute(database)
  await vault.rotate({ master: true }, ada)
  await using restarted = await start()
  expect([restarted.use(ada, 'a', USE), restarted.use(ada, 'b', USE)]).toEqual(['one', 'two'])
})

test('a key file that could not take its place in a rotation does so in the next', async () => {
  const real = createKeyFile(keyPath())
  let fails = true
  const keyFile: KeyFile = {
    ...real,
    promote: () => (fails ? Promise.reject(new Error('read-only file system')) : real.promote()),
  }
  await using vault = await start({ keyFile })
  await vault.set({ userId: ada, name: 'github' }, VALUE, ada)
  await expect(vault.rotate({ master: true }, ada)).rejects.toThrow(/read-only/)
  expect(vault.use(ada, 'github', USE)).toBe(VALUE)
  fails = false
  await vault.rotate({ master: true }, ada)
  await using restarted = await start()
  expect(restarted.use(ada, 'github', USE)).toBe(VALUE)
})

test('uses during a rotation find their value', async () => {
  await using vault = await start()
  await vault.set({ userId: ada, name: 'github' }, VALUE, ada)
  const rotations = Promise.all([true, false, true].map((master) => vault.rotate({ master }, ada)))
  const isUnderWay = () => Promise.race([rotations.then(() => false), new Promise((next) => setImmediate(next, true))])
  while (await isUnderWay()) expect(vault.use(ada, 'github', USE)).toBe(VALUE)
})

test('credentials of the environment are taken in once; what is stored wins, and the log says so', async () => {
  await using vault = await start()
  const given = { apiKey: 'sk-ant-from-env', oauthToken: undefined }
  await importCredentials(vault, ada, given, log)
  expect(vault.use(ada, 'anthropic-api-key', USE)).toBe('sk-ant-from-env')
  expect(vault.scope(bob, 'anthropic-api-key')).toBeUndefined()
  expect(logged.splice(0).join()).toContain('taken into the vault')
  await importCredentials(vault, ada, given, log)
  expect(logged).toEqual([])
  await importCredentials(vault, ada, { apiKey: 'sk-ant-other', oauthToken: 'two\nlines' }, log)
  expect(vault.use(ada, 'anthropic-api-key', USE)).toBe('sk-ant-from-env')
  expect(vault.scope(ada, 'claude-oauth-token')).toBeUndefined()
  expect(logged.join()).toMatch(/ANTHROPIC_API_KEY differs.*CLAUDE_CODE_OAUTH_TOKEN is not used/s)
  expect(logged.join()).not.toMatch(/sk-ant|lines/)
})
