import { VivariumError } from '../../contracts/errors.ts'
import { newId } from '../../contracts/ids.ts'
import type { ApiKey, NewApiKey, User } from '../../contracts/user.ts'
import type { Identity } from '../../identity/types.ts'
import type { ApiOptions, ApiServices } from '../types.ts'
import { FakeLog } from './fake-log.ts'
import { FakeMachines } from './fake-machines.ts'
import { FakeTasks } from './fake-tasks.ts'
import { FakeVault } from './fake-vault.ts'
import { FakeTemplates } from './fake-templates.ts'

/** Two people: the owner with the key `vv_owner`, and ada with `vv_ada`. */
class FakeIdentity implements Identity {
  readonly owner: User = { id: newId('u'), name: 'owner', createdAt: new Date().toISOString() }
  readonly ada: User = { id: newId('u'), name: 'ada', createdAt: new Date().toISOString() }
  readonly #users = new Map([this.owner, this.ada].map((user) => [user.id, user]))
  readonly #keys: NewApiKey[] = [this.#key(this.owner.id, 'vv_owner'), this.#key(this.ada.id, 'vv_ada')]

  async ensureOwner(): Promise<{ user: User }> {
    return { user: this.owner }
  }

  async authenticate(key: string): Promise<User | undefined> {
    return this.#users.get(this.#keys.find((candidate) => candidate.key === key)?.userId ?? '')
  }

  async createUser(name: string): Promise<User> {
    if ([...this.#users.values()].some((user) => user.name === name)) {
      throw new VivariumError('conflict', `There is a user "${name}" already.`, { field: 'name' })
    }
    const user = { id: newId('u'), name, createdAt: new Date().toISOString() }
    this.#users.set(user.id, user)
    return user
  }

  async listUsers(): Promise<User[]> {
    return [...this.#users.values()]
  }

  async removeUser(id: string): Promise<void> {
    this.#users.delete(id)
  }

  async createKey(userId: string, label: string): Promise<NewApiKey> {
    const key = { ...this.#key(userId, `vv_${newId('k')}`), label }
    this.#keys.push(key)
    return key
  }

  async listKeys(userId?: string): Promise<ApiKey[]> {
    return this.#keys
      .filter((key) => userId === undefined || key.userId === userId)
      .map(({ key: _secret, ...shown }) => shown)
  }

  async removeKey(id: string): Promise<void> {
    this.#keys.splice(
      this.#keys.findIndex((key) => key.id === id),
      1,
    )
  }

  isOwner(userId: string): boolean {
    return userId === this.owner.id
  }

  nameOf(): string | undefined {
    return undefined
  }

  #key(userId: string, key: string): NewApiKey {
    return {
      id: newId('k'),
      userId,
      key,
      label: 'test',
      prefix: key.slice(0, 6),
      createdAt: new Date().toISOString(),
      lastUsedAt: null,
    }
  }
}

/** Everything `createApp` wants, in memory. */
export function fakeServices() {
  const log = new FakeLog()
  const tasks = new FakeTasks(log)
  const machines = new FakeMachines()
  const templates = new FakeTemplates()
  const identity = new FakeIdentity()
  const errors: VivariumError[] = []
  const web: Record<string, string> = {
    'web/index.html': '<!doctype html><title>Vivarium</title>',
    'web/assets/index-a1B2_c3D.js': 'console.log(1)',
    'web/favicon.svg': '<svg xmlns="http://www.w3.org/2000/svg"/>',
  }
  const shutdown = { draining: new AbortController(), ending: new AbortController() }
  const services: ApiServices = {
    shutdown: { draining: shutdown.draining.signal, ending: shutdown.ending.signal },
    tasks,
    events: log,
    machines,
    templates,
    identity,
    vault: new FakeVault(),
    usage: {
      query: async ({ userId, by }) => [
        {
          key: `${by}:${userId ?? 'all'}`,
          requests: 1,
          incomplete: 0,
          unpriced: 0,
          costUsd: 0.5,
          inputTokens: 1,
          outputTokens: 2,
          cacheReadTokens: 3,
          cacheWriteTokens: 4,
        },
      ],
    },
    assets: { read: (name) => (web[name] === undefined ? undefined : Buffer.from(web[name])) },
    mcp: async () => new Response('{}'),
    version: async () => ({ version: '0.0.0', node: process.version, claudeCode: null, engines: [] }),
    leaks: async () => [{ kind: 'file', what: '/x', why: 'test', since: new Date(0).toISOString() }],
    notReady: async () => undefined,
    gauges: () => [{ name: 'vivarium_machines', help: 'Machines.', value: 2, labels: { state: 'ready' } }],
    onError: (error) => errors.push(error),
  }
  return { services, shutdown, tasks, log, machines, templates, identity, errors }
}

export const fakeOptions: ApiOptions = {
  listenHost: '127.0.0.1',
  publicHosts: [],
  version: '0.0.0',
  heartbeatMs: 15_000,
  maxUploadBytes: 1024 * 1024,
}
