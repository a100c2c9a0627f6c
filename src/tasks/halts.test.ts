import { expect, test, vi } from 'vitest'
import { agents } from '../agents/agents.ts'
import { RunClock } from './run-clock.ts'
import type { FakeProcess } from './testing/fake-guest.ts'
import { request } from './testing/fake-house.ts'
import { OWNER } from './testing/fake-machines.ts'
import { CLAUDE_RESULT, useHouse } from './testing/house-test.ts'

const t = useHouse(agents)
const HOUR = 3_600_000

/** A task that runs: its id, machine and process. */
async function running(fields: Parameters<typeof request>[0] = {}) {
  const started = Promise.withResolvers<FakeProcess>()
  t.guests((guest) => {
    guest.write('kept.txt', 'kept')
    guest.play = started.resolve
  })
  const { id } = await t.house.tasks.submit(OWNER, request(fields))
  const process = await started.promise
  const vmId = (await t.house.tasks.get(OWNER, id)).vmId ?? ''
  const status = async () => (await t.house.tasks.get(OWNER, id)).status
  const held = (hold: { until: Date; message: string } | null) => t.house.gateway.sessions[0]?.onHeld?.(hold)
  return { id, vmId, process, status, held, done: () => t.house.tasks.wait(OWNER, id) }
}

test('a task whose machine is suspended waits, and goes on when it is resumed', async () => {
  const task = await running()
  await t.house.machines.suspend(task.vmId)
  await expect.poll(task.status).toBe('waiting')
  await t.house.machines.resume(task.vmId)
  await expect.poll(task.status).toBe('running')
  task.process.end()
  expect((await task.done()).status).toBe('succeeded')
  expect(t.statuses(task.id)).toEqual([
    'queued',
    'starting',
    'running',
    'waiting',
    'running',
    'collecting',
    'succeeded',
  ])
  const events = t.house.events.log.get(task.id) ?? []
  expect(events).toContainEqual(
    expect.objectContaining({ status: 'waiting', message: expect.stringMatching(/suspended/) }),
  )
})

test('neither the time limit nor the wait for a lingering agent runs on while the machine is suspended', async () => {
  const task = await running({ agent: 'claude-code', timeoutSeconds: 1 })
  await t.house.machines.suspend(task.vmId)
  task.process.print(CLAUDE_RESULT)
  await new Promise((resolve) => setTimeout(resolve, 1200))
  expect([await task.status(), task.process.signals]).toEqual(['waiting', []])
  await t.house.machines.resume(task.vmId)
  expect((await task.done()).status).toBe('succeeded')
  expect(task.process.signals).toEqual(['SIGTERM'])
})

test("a task whose machine stands still for want of the host's disk waits with that reason, and goes on when the machine does", async () => {
  const task = await running({ timeoutSeconds: 1 })
  const why = 'The disk of this host is full'
  t.house.machines.become(task.vmId, 'ready', { stalled: why })
  await expect.poll(task.status).toBe('waiting')
  await new Promise((resolve) => setTimeout(resolve, 1200))
  t.house.machines.become(task.vmId, 'ready', { stalled: undefined })
  await expect.poll(task.status).toBe('running')
  task.process.end()
  expect((await task.done()).status).toBe('succeeded')
  const events = t.house.events.log.get(task.id) ?? []
  expect(events).toContainEqual(expect.objectContaining({ status: 'waiting', message: why }))
})

test('cancelling a suspended task resumes its machine for its files', async () => {
  const task = await running()
  await t.house.machines.suspend(task.vmId)
  await expect.poll(task.status).toBe('waiting')
  await t.house.tasks.cancel(OWNER, task.id)
  const { status, files } = await task.done()
  expect([status, files.length]).toEqual(['cancelled', 1])
  expect(t.house.machines.calls).toEqual([`suspend ${task.vmId}`, `lease ${task.vmId}`])
  expect(task.process.signals).toEqual(['SIGTERM'])
})

test('a short hold shows as waiting, and nothing is suspended for it', async () => {
  const task = await running()
  const until = new Date(Date.now() + 60_000)
  task.held({ until, message: 'The limit of this hour is reached' })
  await expect.poll(task.status).toBe('waiting')
  expect((await t.house.tasks.get(OWNER, task.id)).waitingUntil).toBe(until.toISOString())
  task.held(null)
  await expect.poll(task.status).toBe('running')
  task.process.end()
  expect(await task.done()).toMatchObject({ status: 'succeeded', waitingUntil: null })
  expect(t.house.machines.calls).toEqual([])
})

test('the machine of a task that is held for long sleeps until it is let go', async () => {
  const task = await running()
  task.held({ until: new Date(Date.now() + HOUR), message: 'The limit is reached' })
  await expect.poll(() => t.house.machines.list()[0]?.state).toBe('suspended')
  expect(await task.status()).toBe('waiting')
  // A later end of the same hold is no reason to suspend it twice.
  task.held({ until: new Date(Date.now() + 2 * HOUR), message: 'The limit is reached' })
  task.held(null)
  await expect.poll(task.status).toBe('running')
  task.process.end()
  expect((await task.done()).status).toBe('succeeded')
  expect(t.house.machines.calls).toEqual([`suspend ${task.vmId}`, `resume ${task.vmId}`])
})

test('a hold that ends while its machine is being suspended wakes it at once', async () => {
  const task = await running()
  task.held({ until: new Date(Date.now() + HOUR), message: 'The limit is reached' })
  task.held(null)
  await expect.poll(() => t.house.machines.calls.at(-1)).toBe(`resume ${task.vmId}`)
  await expect.poll(() => t.house.machines.list()[0]?.state).toBe('ready')
  await expect.poll(task.status).toBe('running')
  task.process.end()
  await task.done()
})

test('where the engine can not suspend, a held task waits awake, and can be cancelled', async () => {
  t.house.machines.canSuspend = false
  const task = await running()
  task.held({ until: new Date(Date.now() + HOUR), message: 'The limit is reached' })
  await expect.poll(task.status).toBe('waiting')
  await t.house.tasks.cancel(OWNER, task.id)
  expect(await task.done()).toMatchObject({ status: 'cancelled', files: [{ path: 'kept.txt' }], waitingUntil: null })
})

test('a clock counts only the time that it runs', () => {
  vi.useFakeTimers()
  try {
    using clock = new RunClock()
    const calls: string[] = []
    clock.timer(1000, () => calls.push('a'))
    const dropped = clock.timer(1000, () => calls.push('b'))
    vi.advanceTimersByTime(900)
    clock.stop()
    clock.stop()
    clock.timer(50, () => calls.push('c'))
    dropped[Symbol.dispose]()
    vi.advanceTimersByTime(5000)
    expect(calls).toEqual([])
    clock.go()
    clock.go()
    vi.advanceTimersByTime(60)
    expect(calls).toEqual(['c'])
    vi.advanceTimersByTime(60)
    expect(calls).toEqual(['c', 'a'])
    const deadline = clock.deadline(10)
    vi.advanceTimersByTime(20)
    expect(deadline.reason).toMatchObject({ name: 'TimeoutError' })
  } finally {
    vi.useRealTimers()
  }
})
