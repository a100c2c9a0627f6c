import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { REQUEST, setUpMachines, type FakeBehaviour } from '../../test/machines/fakes.ts'
import { createCapacity } from './capacity.ts'
import { createReadyPool, type ReadyKind, type ReadyPoolOptions } from './ready-pool.ts'
import { NOBODY, type ReadyWish } from './types.ts'

const SIZE = { memoryMib: 512, vcpus: 1 }
const KIND: ReadyKind = { ...SIZE, template: null, machines: 1, agents: 1 }
const AGENT = { model: null, credentialKind: 'api-key' } as const
const PLAIN: ReadyWish = { ...SIZE, template: null, agent: undefined }
const FOR_AGENT: ReadyWish = { ...PLAIN, agent: AGENT }
const TASK = { ...REQUEST, userId: 'u_111111111111', taskId: 't_111111111111' }
const warm = { web: { script: 'npm ci', allow: [], timeoutSeconds: 5 } }

beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] }))
afterEach(() => void vi.useRealTimers())

/** Lets seconds pass, and what is begun in them come to its end. */
async function pass(seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    await vi.advanceTimersByTimeAsync(1000)
    await sleep(20)
  }
}

async function setUp(
  kinds: ReadyKind[],
  { memoryMib = 4096, ...more }: Partial<ReadyPoolOptions> & { memoryMib?: number } = {},
  behaviour: FakeBehaviour = {},
) {
  const set = await setUpMachines(behaviour, { templates: { warm } })
  const limits = { memoryMib, vcpus: 64, machines: 8, largest: SIZE, minFreeDiskMib: 0, expectedDiskMib: 0 }
  const capacity = createCapacity({ limits, machines: set.machines, freeDiskBytes: () => 2 ** 40 })
  /** What tests change as they go. */
  const now = { agent: AGENT as ReturnType<ReadyPoolOptions['agent']>, freeMemory: 1, starts: 0, agentFails: false }
  const ended = new Map<string, () => void>()
  const pool = createReadyPool({
    machines: set.machines,
    kinds,
    agent: () => now.agent,
    async startAgent({ id }, agent) {
      now.starts += 1
      if (now.agentFails) throw new Error('no agent today')
      const end = Promise.withResolvers<void>()
      ended.set(id, end.resolve)
      return { execId: 'x', sessionId: id, ...agent, ended: end.promise, release: () => {} }
    },
    capacity,
    idleMs: 900_000,
    freeMemory: () => now.freeMemory,
    idleProcessors: () => 1,
    log: set.options.log,
    ...more,
  })
  return {
    ...set,
    pool,
    now,
    endAgent: (id: string) => ended.get(id)?.(),
    /** Lets seconds pass until as many are ready. */
    async untilReady(machines: number, agents: number) {
      const counts = async () => {
        await vi.advanceTimersByTimeAsync(1000)
        return pool.counts()
      }
      await expect.poll(counts, { timeout: 10_000 }).toEqual({ machines, agents })
    },
    after:
      <T>(seconds: number, value: () => T) =>
      async () => {
        await pass(seconds)
        return value()
      },
    async [Symbol.asyncDispose]() {
      await pool[Symbol.asyncDispose]()
      expect(set.machines.list().filter(({ userId }) => userId === NOBODY)).toEqual([])
      await set[Symbol.asyncDispose]()
    },
  }
}

test('each machine is given once; those in which an agent waits to those who can use it', async () => {
  await using set = await setUp([{ ...KIND, machines: 1, agents: 2 }])
  const { pool } = set
  await set.untilReady(1, 2)
  expect(set.machines.list()).toMatchObject([0, 1, 2].map(() => ({ userId: NOBODY, startedFrom: 'template' })))
  expect(pool.take({ ...FOR_AGENT, memoryMib: 1024 })).toBeUndefined()
  expect(pool.take({ ...FOR_AGENT, template: 'web' })).toBeUndefined()
  const first = pool.take(FOR_AGENT)
  expect(first?.waiting).toMatchObject(AGENT)
  const other = pool.take({ ...FOR_AGENT, agent: { ...AGENT, model: 'opus' } })
  expect(other?.waiting).toBeUndefined()
  expect(other).toBeDefined()
  expect(pool.take(PLAIN)).toBeUndefined()
  const last = pool.take(FOR_AGENT)
  expect(new Set([first, other, last].map((ready) => ready?.id)).size).toBe(3)
  expect(pool.take(FOR_AGENT)).toBeUndefined()
  for (const ready of [first, other, last]) await set.machines.evict(ready?.id ?? '', 'used')
  await set.untilReady(1, 2)
})

test('machines of a named template are for those who ask for it', async () => {
  await using set = await setUp([{ ...KIND, template: 'web', agents: 0 }])
  await set.untilReady(1, 0)
  expect(set.pool.take(PLAIN)).toBeUndefined()
  const ready = set.pool.take({ ...PLAIN, template: 'web' })
  expect((await set.machines.assign(ready?.id ?? '', TASK)).info()).toMatchObject({ template: 'web' })
})

test('what died, lost its agent, or waits with another credential is never given out, and is replaced', async () => {
  await using set = await setUp([{ ...KIND, machines: 0 }])
  const { pool, machines, now } = set
  await set.untilReady(0, 1)
  const [dead] = machines.list()
  await machines.evict(dead?.id ?? '', 'killed')
  expect(pool.take(FOR_AGENT)).toBeUndefined()
  await set.untilReady(0, 1)

  const [without] = machines.list()
  set.endAgent(without?.id ?? '')
  await Promise.resolve()
  expect(pool.take(FOR_AGENT)).toBeUndefined()
  await expect.poll(set.after(1, () => machines.list().map(({ id }) => id))).not.toContain(without?.id)
  await set.untilReady(0, 1)

  now.agent = { model: null, credentialKind: 'oauth' }
  expect(pool.take(FOR_AGENT)).toBeUndefined()
  await pass(1)
  await set.untilReady(0, 1)
  const ready = pool.take({ ...PLAIN, agent: now.agent })
  expect(ready?.waiting?.credentialKind).toBe('oauth')
  await machines.assign(ready?.id ?? '', TASK)
})

test('machines of a template that was replaced, or whose image has changed, are never given out', async () => {
  await using set = await setUp([{ ...KIND, agents: 0 }])
  const { pool, machines } = set
  await set.untilReady(1, 0)
  await machines.templates.build({ name: 'default', ...SIZE, rebuild: true })
  expect(pool.take(PLAIN)).toBeUndefined()
  await set.untilReady(1, 0)

  const [old] = machines.list()
  set.image.manifest.key = 'another'
  await vi.advanceTimersByTimeAsync(30_000)
  await expect.poll(() => machines.list().map(({ id }) => id)).not.toContain(old?.id)
  await set.untilReady(1, 0)
  expect((await machines.templates.list()).map(({ state }) => state).toSorted()).toEqual(['ready', 'stale'])
})

test('work of somebody has its place: nothing is started while it starts, and ready machines make room, agents last', async () => {
  await using set = await setUp([{ ...KIND, machines: 2 }], { memoryMib: 2048 })
  const { machines, behaviour, pool } = set
  await set.untilReady(2, 1)
  await Promise.all([machines.create(TASK), machines.create(TASK), machines.create(TASK)])
  await set.untilReady(0, 1)
  for (const { id, userId } of machines.list()) if (userId !== NOBODY) await machines.evict(id, 'done')

  behaviour.hello = 'never'
  const starting = machines.create(TASK).catch(() => {})
  await expect.poll(() => machines.list().filter(({ state }) => state === 'booting')).toHaveLength(1)
  await pass(5)
  expect(pool.counts()).toEqual({ machines: 0, agents: 1 })
  const id = machines.list().find(({ state }) => state === 'booting')?.id
  await machines.evict(id ?? '', 'changed my mind')
  await starting
  delete behaviour.hello
  await set.untilReady(2, 1)
})

test('nobody who has just got a machine is slowed down by its replacement', async () => {
  let idle = 1
  await using set = await setUp([KIND], { idleProcessors: () => idle })
  const { machines, pool } = set
  await set.untilReady(1, 1)
  await pass(5) // all that time the processors are idle
  await machines.assign(pool.take(FOR_AGENT)?.id ?? '', TASK)
  await pass(2)
  expect(pool.counts()).toEqual({ machines: 1, agents: 0 })
  idle = 0
  await pass(5)
  idle = 1
  await pass(2)
  expect(machines.list()).toHaveLength(2)
  await set.untilReady(1, 1)
})

test('ready machines are let go when memory is short or nobody has come for long, and are there again when it is worth it', async () => {
  await using set = await setUp([KIND], { idleMs: 60_000 })
  const { now, machines } = set
  await set.untilReady(1, 1)
  now.freeMemory = 0.05
  await set.untilReady(0, 0)
  now.freeMemory = 0.15 // so little that they would be let go again
  await pass(3)
  expect(machines.list()).toEqual([])
  now.freeMemory = 1
  await set.untilReady(1, 1)

  await pass(1)
  await vi.advanceTimersByTimeAsync(60_000)
  await expect.poll(() => machines.list()).toEqual([])
  await pass(3)
  expect(machines.list()).toEqual([])
  expect(set.pool.take(FOR_AGENT)).toBeUndefined() // somebody has come
  await set.untilReady(1, 1)
})

test('what fails is tried again, later each time, and does not keep the rest from being made ready', async () => {
  await using set = await setUp([KIND])
  const { now } = set
  now.agentFails = true
  await set.untilReady(1, 0)
  expect(now.starts).toBe(1)
  await vi.advanceTimersByTimeAsync(61_000)
  await expect.poll(() => now.starts).toBe(2)
  await pass(1)
  await vi.advanceTimersByTimeAsync(61_000)
  await pass(1)
  expect(now.starts).toBe(2)
  now.agentFails = false
  await vi.advanceTimersByTimeAsync(60_000)
  await set.untilReady(1, 1)
})

test('without a credential no agent is started; templates that were missed are built once all is ready', async () => {
  await using set = await setUp([KIND])
  const { now, machines } = set
  now.agent = undefined
  const machine = await machines.create({ ...TASK, memoryMib: 600 })
  await machine.destroy()
  await set.untilReady(1, 0)
  expect(now.starts).toBe(0)
  const sizes = async () => (await machines.templates.list()).map(({ memoryMib }) => memoryMib).toSorted()
  await expect.poll(set.after(1, sizes)).toEqual([512, 600])
})

test('what is ready is looked after while a template is built', async () => {
  await using set = await setUp([
    { ...KIND, machines: 1, agents: 0 },
    { ...KIND, template: 'web', machines: 1, agents: 0 },
  ])
  const { behaviour, now, machines } = set
  const goOn = Promise.withResolvers<void>()
  behaviour.exec = async (_, stdin) => {
    if (stdin === 'npm ci') await goOn.promise
    return 0
  }
  await set.untilReady(1, 0)
  await expect.poll(set.after(1, () => machines.list())).toHaveLength(2)
  now.freeMemory = 0.05
  await set.untilReady(0, 0)
  goOn.resolve()
  await expect.poll(set.after(1, () => machines.list())).toEqual([])
})
