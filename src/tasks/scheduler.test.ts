import { array, assert, asyncProperty, constantFrom, integer, nat, oneof, record } from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createCapacity } from '../machines/capacity.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { QueuedTask } from './queue.ts'
import { Scheduler, type Waiting } from './scheduler.ts'
import { machineInfo } from './testing/fake-machines.ts'

const LIMITS = {
  memoryMib: 8192,
  vcpus: 8,
  machines: 4,
  largest: { memoryMib: 8192, vcpus: 8 },
  minFreeDiskMib: 1024,
  expectedDiskMib: 1024,
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const atOnce = (): Waiting => ({ after: new Set(), notBefore: 0, why: '' })

/** A scheduler whose tasks run until the test ends them. */
function setUp(limits: Partial<typeof LIMITS> = {}) {
  const host = { machines: [] as MachineInfo[], freeDiskMib: 1_000_000 }
  const capacity = createCapacity({
    limits: { ...LIMITS, ...limits },
    machines: { list: () => host.machines },
    freeDiskBytes: () => host.freeDiskMib * 1024 ** 2,
  })
  const running = new Map<string, (waiting?: Waiting) => void>()
  const started: string[] = []
  const scheduler = new Scheduler({
    capacity,
    agingMs: 600_000,
    heldBackBy: () => undefined,
    now: () => Date.now(),
    run(id) {
      started.push(id)
      return new Promise((resolve) => running.set(id, resolve))
    },
  })
  let count = 0
  function task(id: string, more: Partial<QueuedTask> = {}): QueuedTask {
    const size = { memoryMib: 1024, vcpus: 1 }
    return { id, userId: 'ada', priority: 'normal', since: (count += 1), takesOver: undefined, ...size, ...more }
  }
  return {
    host,
    capacity,
    scheduler,
    running,
    started,
    add: (id: string, more: Partial<QueuedTask> = {}, waiting = atOnce()) => scheduler.enqueue(task(id, more), waiting),
    adopt: (id: string, more: Partial<QueuedTask> = {}) => scheduler.adopt(task(id, more)),
    /** Ends a run; resolves when the scheduler has dealt with it. */
    async end(id: string, waiting?: Waiting) {
      running.get(id)?.(waiting)
      running.delete(id)
      await vi.advanceTimersByTimeAsync(0)
    },
    reason: (id: string) => scheduler.places([id]).get(id)?.reason,
    position: (id: string) => scheduler.places([id]).get(id)?.position,
  }
}

test.each([
  ['machines', { machines: 2 }, {}, '1 free machine'],
  ['memory', { memoryMib: 4096 }, { memoryMib: 2048 }, '2 GiB'],
  ['processors', { vcpus: 7 }, { vcpus: 3 }, '2 virtual processors'],
])('tasks start while there are %s, and say what they wait for', async (_name, limits, size, words) => {
  const { add, started, end, reason, position } = setUp(limits)
  for (const id of ['t1', 't2', 't3', 't4']) add(id, size)
  expect(started).toEqual(['t1', 't2'])
  expect([reason('t1'), position('t3'), position('t4')]).toEqual([undefined, 1, 2])
  expect([reason('t3'), reason('t4')]).toEqual([`waiting for ${words}`, `waiting for ${words}: 1 task ahead`])
  await end('t1')
  expect(started).toEqual(['t1', 't2', 't3'])
})

test('nothing starts while the disk is short; it is looked at again without anybody saying so', async () => {
  const { add, started, host, reason } = setUp()
  host.freeDiskMib = 2047
  add('t1')
  expect([started, reason('t1')]).toEqual([[], 'waiting for 1 MiB of free disk space'])
  host.freeDiskMib = 2048
  await vi.advanceTimersByTimeAsync(5000)
  expect(started).toEqual(['t1'])
})

test('a task that does not fit is passed by small ones only where these leave it its room', async () => {
  const { add, started, end, reason } = setUp({ machines: 16 })
  add('long', { memoryMib: 2048 })
  add('short', { memoryMib: 2048 })
  add('large', { memoryMib: 6144 })
  for (const n of [1, 2, 3]) add(`small${n}`, { memoryMib: 1024 })
  // 8 GiB are there, so 2 of them are never for the large one; 4 are free at the moment.
  expect(started).toEqual(['long', 'short', 'small1', 'small2'])
  expect([reason('large'), reason('small3')]).toEqual(['waiting for 4 GiB', 'waiting for its turn: 1 task ahead'])
  await end('short')
  expect(started.slice(4)).toEqual([])
  await end('long')
  expect(started.slice(4)).toEqual(['large'])
  await end('small1')
  expect(started.slice(5)).toEqual(['small3'])
})

test('nobody waits behind a task that machines of people keep from starting', async () => {
  const { add, started, host, scheduler } = setUp()
  host.machines = [machineInfo('vm_1', null, 1024)]
  add('whole', { memoryMib: 8192 })
  for (const n of [1, 2, 3]) add(`small${n}`)
  expect(started).toEqual(['small1', 'small2', 'small3'])
  host.machines = []
  scheduler.admit()
  add('small4')
  expect(started.slice(3)).toEqual([])
})

test('a task that takes over a kept machine needs no room of its own', () => {
  const { add, started, host } = setUp()
  host.machines = [machineInfo('vm_1', 't0', 8192)]
  add('other')
  expect(started).toEqual([])
  add('next', { memoryMib: 8192, takesOver: 't0' })
  expect(started).toEqual(['next'])
})

test('an adopted task counts, whether there is room or not', async () => {
  const { adopt, add, started, end, scheduler } = setUp({ machines: 1 })
  for (const id of ['old1', 'old2']) adopt(id)
  add('new')
  expect([started, scheduler.running]).toEqual([['old1', 'old2'], 2])
  await end('old1')
  expect(started).toHaveLength(2)
  await end('old2')
  expect(started.at(-1)).toBe('new')
})

test('a task waits for others to succeed, before it waits for its turn', () => {
  const { add, started, scheduler, reason, position } = setUp()
  add('t3', {}, { ...atOnce(), after: new Set(['t1', 't2']) })
  expect(scheduler.waitingFor('t1')).toEqual(['t3'])
  scheduler.succeeded('t1')
  expect([started, position('t3'), reason('t3')]).toEqual([[], null, 'waiting for the success of t2'])
  scheduler.succeeded('t2')
  expect(started).toEqual(['t3'])
})

test('a task that is to run again gives up its room and waits for its time', async () => {
  const { add, started, end, reason, scheduler } = setUp({ machines: 1 })
  add('t1')
  const notBefore = Date.now() + 20_000
  await end('t1', { ...atOnce(), notBefore, why: 'no luck' })
  add('t2')
  expect([started, scheduler.queued]).toEqual([['t1', 't2'], 1])
  expect(reason('t1')).toBe(`waiting until ${new Date(notBefore).toISOString()}: no luck`)
  await end('t2')
  await vi.advanceTimersByTimeAsync(19_999)
  expect(started).toHaveLength(2)
  await vi.advanceTimersByTimeAsync(1)
  expect(started).toEqual(['t1', 't2', 't1'])
})

test('a closed scheduler starts nothing, and says who runs', async () => {
  const { add, started, end, reason, scheduler } = setUp({ machines: 1 })
  for (const id of ['t1', 't2']) add(id)
  expect(scheduler.close()).toEqual(['t1'])
  await end('t1')
  expect([started, reason('t2')]).toEqual([['t1'], 'waiting for the next start of the server'])
})

/** What happens to a scheduler: a task comes, or the n-th of those that run ends. */
const comes = (memoryMib: number) =>
  record({
    userId: constantFrom('ada', 'bob', 'cy'),
    priority: constantFrom('low' as const, 'normal' as const, 'high' as const),
    memoryMib: integer({ min: 512, max: memoryMib }),
    vcpus: integer({ min: 1, max: memoryMib === 512 ? 1 : 8 }),
  })
const ends = record({ ends: nat() })

type Step = { ends: number } | Pick<QueuedTask, 'userId' | 'priority' | 'memoryMib' | 'vcpus'>

/** Plays steps, then lets everything end; `look` is called after each step. */
async function play(
  steps: readonly Step[],
  look: (set: ReturnType<typeof setUp>, step: Step) => void,
  limits: Partial<typeof LIMITS> = {},
) {
  const set = setUp(limits)
  const endNth = (n: number) => set.end([...set.running.keys()][n % set.running.size] ?? '')
  for (const [n, step] of steps.entries()) {
    if ('ends' in step) await endNth(step.ends)
    else set.add(`t${n}`, step)
    look(set, step)
  }
  while (set.running.size > 0) {
    await endNth(0)
    look(set, { ends: 0 })
  }
  return set
}

test('whatever comes and ends, the host is never overcommitted, and every task gets its turn', async () => {
  const steps = array(oneof(comes(8192), comes(8192), ends), { maxLength: 60 })
  await assertAsync(steps, async (given) => {
    const set = await play(given, ({ capacity }) => {
      const free = capacity.free()
      expect(Math.min(free.machines, free.memoryMib, free.vcpus)).toBeGreaterThanOrEqual(0)
    })
    expect(set.scheduler.queued).toBe(0)
    expect(new Set(set.started).size).toBe(given.filter((step) => !('ends' in step)).length)
  })
})

test('who has nothing running is passed at most once by each other user, however much those send', async () => {
  const steps = array(oneof(comes(512), comes(512), comes(512), ends), { maxLength: 80 })
  await assertAsync(steps, async (given) => {
    const owner = (id: string) => {
      const step = given[Number(id.slice(1))]
      return step !== undefined && 'userId' in step ? step.userId : ''
    }
    /** By user who waits with nothing running: how many tasks had been started when that began. */
    const since = new Map<string, number>()
    const look: Parameters<typeof play>[1] = ({ started, running, scheduler }) => {
      const busy = new Set([...running.keys()].map(owner))
      for (const user of ['ada', 'bob', 'cy']) {
        const isKeptWaiting = !busy.has(user) && scheduler.queuedOf(user) > 0
        if (!isKeptWaiting) since.set(user, started.length)
        const passedBy = started.slice(since.get(user) ?? started.length).map(owner)
        expect(passedBy.length).toBe(new Set(passedBy).size)
      }
    }
    await play(given, look, { machines: 2 })
  })
})

test('a task that was passed starts at the latest when those have ended that ran then', async () => {
  const steps = array(oneof(comes(8192), comes(8192), comes(2048), ends), { maxLength: 60 })
  await assertAsync(steps, async (given) => {
    let passed: { id: string; ran: Set<string> } | undefined
    let before = new Set<string>()
    const mine = given.map((step) => ('ends' in step ? step : { ...step, userId: 'ada', priority: 'normal' as const }))
    const number = (id: string) => Number(id.slice(1))
    let known = 0
    await play(mine, ({ started, running, scheduler }) => {
      const waiting = [...scheduler.places(mine.map((_, n) => `t${n}`)).keys()]
      for (const id of started.slice(known)) {
        const older = waiting.filter((other) => number(other) < number(id)).toSorted((a, b) => number(a) - number(b))[0]
        if (older !== undefined) passed ??= { id: older, ran: new Set(before) }
        before.add(id)
      }
      known = started.length
      before = new Set(running.keys())
      if (passed === undefined) return
      const isWaiting = waiting.includes(passed.id)
      const isOver = [...passed.ran].every((id) => !running.has(id))
      expect(isWaiting && isOver).toBe(false)
      if (!isWaiting) passed = undefined
    })
  })
})

async function assertAsync(steps: ReturnType<typeof array<Step>>, check: (given: Step[]) => Promise<void>) {
  await assert(asyncProperty(steps, check), { numRuns: 150 })
}
