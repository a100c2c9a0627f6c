import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startScriptedModel, type ScriptedModel } from '../../scripted-model/server.ts'
import { newId } from '../contracts/ids.ts'
import { openDatabase, type Database } from '../store/database.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import { createLogger } from '../telemetry/logger.ts'
import { createKeyFile } from '../vault/key-file.ts'
import type { Vault } from '../vault/types.ts'
import { openVault } from '../vault/vault.ts'
import { vaultCredentials } from './credentials.ts'
import { createGateway } from './gateway.ts'
import { connectGuest } from './test-guest.ts'
import type { Gateway } from './types.ts'
import { createUsage } from './usage.ts'

const ada = newId('u')
const bob = newId('u')
const KEYS = { ada: 'sk-ant-api03-of-ada', bob: 'sk-ant-oat01-of-bob', shared: 'sk-ant-api03-shared' }

let stack: AsyncDisposableStack
let database: Database
let vault: Vault
let model: ScriptedModel
let gateway: Gateway

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'vivarium-users-'))
  stack.defer(() => rm(dir, { recursive: true, force: true }))
  database = await openDatabase(':memory:')
  stack.defer(() => database.destroy())
  for (const [id, name] of [
    [ada, 'ada'],
    [bob, 'bob'],
  ] as const)
    await database.insertInto('users').values({ id, name, isOwner: 0, createdAt: '' }).execute()
  const log = createLogger('error')
  vault = stack.use(
    await openVault({
      database,
      keyFile: createKeyFile(join(dir, 'master.key')),
      given: { masterKey: undefined, previousMasterKey: undefined, directory: undefined },
      forgetSecrets: false,
      log,
    }),
  )
  model = stack.use(
    await startScriptedModel({
      script: { conversations: [{ when: '', turns: [{ blocks: [{ type: 'text', text: 'hi' }] }] }] },
    }),
  )
  gateway = createGateway({
    config: { anthropic: { upstream: model.url }, network: { allow: [] } },
    database,
    storage: SOUND_STORAGE,
    credentials: vaultCredentials(vault),
    registries: [],
    isTrusted: () => false,
    log,
  })
})

afterEach(() => stack.disposeAsync())

/** A user's machine, and a way to make it ask the model. */
async function machine(userId: string) {
  const context = { machineId: newId('vm'), taskId: newId('t') }
  const session = gateway.open({ ...context, userId, policy: undefined, maxCostUsd: undefined })
  stack.defer(() => session.close())
  const guest = stack.use(await connectGuest(session))
  const ask = async (content: string) =>
    (await guest.askModel({ model: 'claude-opus-5-5', stream: true, messages: [{ role: 'user', content }] })).status
  return { ...context, session, ask }
}

/** Which credential each prompt went upstream with. */
function signatures(): [prompt: string, credential: string][] {
  return model.requests.map(({ headers, body }) => {
    const { messages } = body as { messages: { content: string }[] }
    return [messages[0]?.content ?? '', String(headers['x-api-key'] ?? headers.authorization)]
  })
}

test("requests of two users at once carry each its owner's credential, and each cost lands on its owner", async () => {
  await vault.set({ userId: ada, name: 'anthropic-api-key' }, KEYS.ada, ada)
  await vault.set({ userId: bob, name: 'claude-oauth-token' }, KEYS.bob, bob)
  await vault.set({ userId: null, name: 'anthropic-api-key' }, KEYS.shared, ada)
  const [hers, his] = await Promise.all([machine(ada), machine(bob)])
  const rounds = Array.from({ length: 12 }, (_, round) => round)
  const statuses = await Promise.all(
    rounds.flatMap((round) => [hers.ask(`ada ${round}`), his.ask(`bob ${round}`), his.ask(`bob too ${round}`)]),
  )
  expect(new Set(statuses)).toEqual(new Set([200]))
  expect(model.requests).toHaveLength(36)
  for (const [prompt, credential] of signatures())
    expect([prompt, credential]).toEqual([prompt, prompt.startsWith('ada') ? KEYS.ada : `Bearer ${KEYS.bob}`])

  const spent = [hers.session.totals().costUsd, his.session.totals().costUsd]
  await Promise.all([hers.session.close(), his.session.close()])
  const rows = await createUsage(database).query({ by: 'user', limit: 10 })
  expect(rows.map(({ key, requests }) => [key, requests])).toEqual([
    [bob, 24],
    [ada, 12],
  ])
  expect(rows.map(({ costUsd }) => costUsd)).toEqual([
    expect.closeTo(spent[1] ?? 0, 9),
    expect.closeTo(spent[0] ?? 0, 9),
  ])
  expect(spent[1]).toBeCloseTo(2 * (spent[0] ?? 0), 9)
})

test('each request is a use in the audit, of its user, task and machine', async () => {
  await vault.set({ userId: ada, name: 'anthropic-api-key' }, KEYS.ada, ada)
  await vault.set({ userId: null, name: 'anthropic-api-key' }, KEYS.shared, ada)
  const [hers, his] = [await machine(ada), await machine(bob)]
  for (const each of [hers, hers, his]) expect(await each.ask('hi')).toBe(200)
  const lines = await vault.audit({ limit: 100 })
  const uses = lines.filter(({ action }) => action === 'use').map(({ id: _id, at: _at, ...line }) => line)
  const common = { action: 'use', name: 'anthropic-api-key', purpose: 'anthropic', count: 1 }
  const use = (
    userId: string,
    ownerId: string | null,
    { taskId, machineId }: { taskId: string; machineId: string },
  ) => ({
    ...common,
    userId,
    ownerId,
    taskId,
    machineId,
  })
  expect(uses).toEqual([use(bob, null, his), use(ada, ada, hers), use(ada, ada, hers)])
  expect((await vault.list(ada)).map(({ lastUsedAt }) => lastUsedAt)).not.toContain(null)
})

test('a credential that is stored, replaced or removed counts with the next request', async () => {
  const hers = await machine(ada)
  expect([gateway.credentialKind(ada), await hers.ask('1')]).toEqual([undefined, 402])
  await vault.set({ userId: null, name: 'claude-oauth-token' }, KEYS.shared, ada)
  expect([gateway.credentialKind(ada), await hers.ask('2')]).toEqual(['oauth', 200])
  await vault.set({ userId: ada, name: 'anthropic-api-key' }, KEYS.ada, ada)
  expect([gateway.credentialKind(ada), await hers.ask('3')]).toEqual(['api-key', 200])
  await vault.remove({ userId: ada, name: 'anthropic-api-key' }, ada)
  expect(await hers.ask('4')).toBe(200)
  await vault.remove({ userId: null, name: 'claude-oauth-token' }, ada)
  expect(await hers.ask('5')).toBe(402)
  expect(signatures()).toEqual([
    ['2', `Bearer ${KEYS.shared}`],
    ['3', KEYS.ada],
    ['4', `Bearer ${KEYS.shared}`],
  ])
})
