import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient } from '../client/client.ts'
import { openDatabase } from '../store/database.ts'
import { createLogger } from '../telemetry/logger.ts'
import { createKeyFile } from '../vault/key-file.ts'
import { openVault } from '../vault/vault.ts'
import { createApp } from './app.ts'
import { fakeOptions, fakeServices } from './testing/fake-services.ts'

const VALUE = 'ghp_5d2f8c41b7'

let stack: AsyncDisposableStack
let fakes: ReturnType<typeof fakeServices>
/** Everything that the server answered or logged, as text. */
let said: string[]
let ada: ReturnType<typeof createClient>
let owner: ReturnType<typeof createClient>
let ask: (method: string, path: string, body?: unknown, key?: string) => Promise<Response>

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  said = []
  fakes = fakeServices()
  const dir = await mkdtemp(join(tmpdir(), 'vivarium-secrets-'))
  stack.defer(() => rm(dir, { recursive: true, force: true }))
  const database = await openDatabase(':memory:')
  stack.defer(() => database.destroy())
  for (const [index, user] of [fakes.identity.owner, fakes.identity.ada].entries())
    await database
      .insertInto('users')
      .values({ ...user, isOwner: index === 0 ? 1 : 0 })
      .execute()
  const vault = stack.use(
    await openVault({
      database,
      keyFile: createKeyFile(join(dir, 'master.key')),
      given: { masterKey: undefined, previousMasterKey: undefined, directory: undefined },
      forgetSecrets: false,
      log: createLogger('debug', { write: (line) => said.push(line) }),
    }),
  )
  const app = createApp(
    { ...fakes.services, vault, onError: (error) => said.push(`${error.message} ${error.stack}`) },
    fakeOptions,
  )
  const fetch = async (request: Request) => {
    const response = await app.fetch(request)
    said.push(await response.clone().text(), JSON.stringify([...response.headers]))
    return response
  }
  const clientOf = (apiKey: string) => createClient({ url: 'http://127.0.0.1:8080', apiKey, fetch })
  ada = clientOf('vv_ada')
  owner = clientOf('vv_owner')
  ask = (method, path, body, key = 'vv_ada') =>
    fetch(
      new Request(`http://127.0.0.1:8080/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    )
})

afterEach(() => stack.disposeAsync())

test('no answer and no log line ever holds a value, whatever is asked and however wrongly', async () => {
  await ada.secrets.set('github', VALUE)
  await ada.secrets.set('github', `${VALUE}-2`)
  await ada.secrets.list()
  await owner.secrets.rotate({ master: true })
  await owner.secrets.audit()
  const wrong = [
    await ask('PUT', '/secrets/github', { value: `${VALUE}\nx-injected: 1` }),
    await ask('PUT', '/secrets/github', { value: [VALUE] }),
    await ask('PUT', '/secrets/github', { value: VALUE, shared: true }),
    await ask('PUT', '/secrets/github', { value: VALUE, userId: fakes.identity.owner.id }),
    await ask('PUT', '/secrets/BAD NAME', { value: VALUE }),
    await ask('GET', '/secrets/github'),
    await ask('POST', '/secrets/github', { value: VALUE }),
  ]
  expect(wrong.map(({ status }) => status)).toEqual([400, 400, 403, 403, 404, 404, 404])
  expect(said.length).toBeGreaterThan(20)
  expect(said.filter((text) => text.includes(VALUE))).toEqual([])
})

test('everybody sees their own and the shared ones, the owner all', async () => {
  await ada.secrets.set('npm', 'of-ada')
  await owner.secrets.set('npm', 'of-owner')
  await owner.secrets.set('npm', 'of-all', { shared: true })
  const whose = async (client: typeof ada) => (await client.secrets.list()).map(({ userId }) => userId)
  const ids = { ada: fakes.identity.ada.id, owner: fakes.identity.owner.id }
  expect(new Set(await whose(ada))).toEqual(new Set([null, ids.ada]))
  expect(new Set(await whose(owner))).toEqual(new Set([null, ids.ada, ids.owner]))
  expect((await ada.secrets.audit()).map(({ action, ownerId }) => [action, ownerId])).toEqual([['set', ids.ada]])
  expect(await owner.secrets.audit({ name: 'npm', limit: 2 })).toHaveLength(2)
})

test("who is not the owner changes nobody else's secrets and no keys", async () => {
  await owner.secrets.set('npm', 'of-all', { shared: true })
  const forbidden = [
    ada.secrets.remove('npm', { shared: true }),
    ada.secrets.remove('npm', { userId: fakes.identity.owner.id }),
    ada.secrets.rotate(),
  ]
  for (const promise of forbidden) await expect(promise).rejects.toMatchObject({ code: 'forbidden' })
  await expect(ada.secrets.remove('npm')).rejects.toMatchObject({ code: 'not_found' })
  await expect(owner.secrets.set('npm', 'x', { shared: true, userId: fakes.identity.ada.id })).rejects.toMatchObject({
    code: 'invalid_request',
    field: 'userId',
  })
  await owner.secrets.set('npm', 'given', { userId: fakes.identity.ada.id })
  await ada.secrets.remove('npm')
  await owner.secrets.remove('npm', { shared: true })
  expect(await owner.secrets.list()).toEqual([])
})
