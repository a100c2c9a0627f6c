import { mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { loadConfig } from '../config/load.ts'
import { openDatabase } from '../store/database.ts'
import { createLogger } from '../telemetry/logger.ts'
import { createKeyFile } from '../vault/key-file.ts'
import { openVault } from '../vault/vault.ts'
import { checkVault } from './vault.ts'

const KEY = '0123456789abcdef'.repeat(4)

let home: string

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'vivarium-doctor-'))
})

afterEach(() => rm(home, { recursive: true, force: true }))

/** The two checks, as a command with this environment sees them. */
function look(env: Record<string, string> = {}) {
  const [credential, vault] = checkVault(loadConfig({}, undefined, { VIVARIUM_HOME: home, ...env }).config)
  return { credential, vault }
}

async function store(env: Record<string, string> = {}) {
  await using database = await openDatabase(join(home, 'vivarium.db'))
  await using vault = await openVault({
    database,
    keyFile: createKeyFile(join(home, 'master.key')),
    given: loadConfig({}, undefined, { VIVARIUM_HOME: home, ...env }).config.credentials,
    forgetSecrets: false,
    log: createLogger('error'),
  })
  await vault.set({ userId: null, name: 'anthropic-api-key' }, 'sk-ant-x', 'u_0123456789ab')
}

test('before anything is stored: a credential is missed, or found in the environment, and nothing is made', async () => {
  expect(look()).toMatchObject({
    credential: { status: 'warning', fix: 'vivarium secret set anthropic-api-key' },
    vault: { status: 'ok' },
  })
  expect(look({ ANTHROPIC_API_KEY: 'sk-ant-y' }).credential).toMatchObject({
    status: 'ok',
    detail: expect.stringMatching(/ANTHROPIC_API_KEY/),
  })
  expect(await readdir(home)).toEqual([])
})

test('a stored credential is found; a lost or wrong key is told, with the way out', async () => {
  await store()
  expect(look()).toMatchObject({
    credential: { status: 'ok', detail: expect.stringMatching(/\(shared\)/) },
    vault: { status: 'ok' },
  })
  expect(look({ VIVARIUM_MASTER_KEY: KEY }).vault).toMatchObject({
    status: 'missing',
    detail: expect.stringMatching(/does not open/),
  })
  expect(look({ VIVARIUM_MASTER_KEY: 'short' }).credential).toMatchObject({
    status: 'missing',
    detail: expect.stringMatching(/no master key/),
  })
  await rename(join(home, 'master.key'), join(home, 'kept'))
  expect(look().vault).toMatchObject({
    status: 'missing',
    detail: expect.stringMatching(/master\.key is gone.*--forget-secrets/),
  })
  await writeFile(join(home, 'master.key'), KEY)
  expect(look().vault).toMatchObject({ status: 'missing' })
})

test('a key that only the server is given can not be judged from a shell', async () => {
  await store({ VIVARIUM_MASTER_KEY: KEY })
  expect(look().vault).toMatchObject({
    status: 'warning',
    detail: expect.stringMatching(/given to the server from outside/),
  })
  expect(look({ VIVARIUM_MASTER_KEY: KEY }).vault).toMatchObject({ status: 'ok' })
})
