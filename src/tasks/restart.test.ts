import { afterEach, assert, beforeEach, expect, test } from 'vitest'
import { agents } from '../agents/agents.ts'
import type { TaskRequestInput } from '../contracts/task.ts'
import { type Database, openDatabase } from '../store/database.ts'
import type { TaskSettings } from './settings.ts'
import { FakeGuest, type FakeProcess } from './testing/fake-guest.ts'
import { fakeHouse, request } from './testing/fake-house.ts'
import { OWNER } from './testing/fake-machines.ts'

type House = ReturnType<typeof fakeHouse>

let database: Database
let houses: House[]

beforeEach(async () => {
  database = await openDatabase(':memory:')
  houses = [fakeHouse(database, agents)]
})

afterEach(async () => {
  const last = houses.at(-1)
  await last?.tasks[Symbol.asyncDispose]()
  assert.deepEqual([...(last?.machines.alive.keys() ?? [])], [], 'a machine was left')
  assert.deepEqual(await database.selectFrom('runs').selectAll().execute(), [], 'a run was left in the journal')
  await database.destroy()
})

const current = () => houses.at(-1) as House

/** Kills the orchestrator: machines run on, nothing that it was about to store is stored, and another one takes over. */
async function restart(how: { settings?: Partial<TaskSettings>; isKilled?: boolean } = {}): Promise<void> {
  const before = current()
  before.events.isKilled = how.isKilled ?? true
  const after = fakeHouse(database, agents, how.settings, { before })
  houses.push(after)
  await after.tasks.claims()
  await after.tasks.recover()
}

/** A task whose agent runs, played by the test. */
async function running(fields: Partial<TaskRequestInput> = {}, settings: Partial<TaskSettings> = {}) {
  if (Object.keys(settings).length > 0) houses = [fakeHouse(database, agents, settings)]
  const started = Promise.withResolvers<FakeProcess>()
  const guest = new FakeGuest()
  guest.write('kept.txt', 'kept')
  guest.play = started.resolve
  current().machines.guest = () => guest
  const { id } = await current().tasks.submit(OWNER, request(fields))
  const process = await started.promise
  const { vmId } = await current().tasks.get(OWNER, id)
  const events = () => current().events.log.get(id) ?? []
  const printed = () => events().flatMap((event) => (event.type === 'raw' || event.type === 'text' ? [event.text] : []))
  const statuses = () => events().flatMap((event) => (event.type === 'status' ? [event.status] : []))
  const done = () => current().tasks.wait(OWNER, id, { timeoutMs: 10_000 })
  return { id, vmId: vmId ?? '', process, guest, printed, statuses, events, done }
}

test('a task goes on where it was when its orchestrator was killed: no line lost, none twice', async () => {
  const task = await running()
  for (let n = 0; n < 50; n += 1) task.process.print(`line ${n}\n`)
  await expect.poll(() => task.printed().join('')).toMatch(/line 49\n$/)
  await restart()
  for (let n = 50; n < 100; n += 1) task.process.print(`line ${n}\n`)
  await expect.poll(() => task.printed().join('')).toMatch(/line 99\n$/)
  await restart()
  task.process.end()
  const ended = await task.done()
  expect(ended).toMatchObject({ status: 'succeeded', exitCode: 0, files: [{ path: 'kept.txt' }] })
  expect(task.printed().join('')).toBe(Array.from({ length: 100 }, (_, n) => `line ${n}\n`).join(''))
  expect(task.events().map(({ seq }) => seq)).toEqual(task.events().map((_, n) => n + 1))
  expect(task.statuses().filter((status) => status === 'succeeded')).toHaveLength(1)
  expect(current().machines.calls).toContain(`rejoin ${task.vmId}`)
})

test('what was printed while no orchestrator ran is not lost, nor half a line that it had read', async () => {
  const task = await running({ agent: 'claude-code' })
  const text = (words: string) =>
    `${JSON.stringify({ type: 'assistant', message: { content: [{ type: 'text', text: words }] } })}\n`
  task.process.print(text('one'))
  task.process.print(text('two').slice(0, 20))
  await expect.poll(task.printed).toEqual(['one'])
  const before = current()
  before.events.isKilled = true
  task.process.print(text('two').slice(20))
  task.process.print(text('three'))
  task.process.print(
    `${JSON.stringify({ type: 'result', subtype: 'success', is_error: false, num_turns: 2, result: 'done' })}\n`,
  )
  task.process.end()
  await restart()
  expect(await task.done()).toMatchObject({ status: 'succeeded', result: 'done', turns: 2 })
  expect(task.printed()).toEqual(['one', 'two', 'three'])
})

test('the guest may forget only what is stored', async () => {
  const task = await running()
  task.process.print('first\n')
  await expect.poll(task.printed).toEqual(['first\n'])
  await expect.poll(() => task.process.acknowledged).toBe(1)
  current().events.isKilled = true
  task.process.print('second\n')
  task.process.print('third\n')
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(task.process.acknowledged).toBe(1)
  await restart()
  await expect.poll(() => task.printed().join('')).toBe('first\nsecond\nthird\n')
  task.process.end()
  await task.done()
  expect(task.process.acknowledged).toBe(4)
})

test('the time limit counts the time in which no orchestrator ran', async () => {
  const task = await running({ timeoutSeconds: 60 })
  await database
    .updateTable('runs')
    .set({ clockAt: new Date(Date.now() - 59_900).toISOString() })
    .execute()
  await restart()
  expect(await task.done()).toMatchObject({ status: 'timed_out', error: { code: 'timed_out' } })
})

test('a cancel holds, also where the orchestrator is killed before the task has ended', async () => {
  const task = await running()
  task.process.onSignal = () => {}
  await current().tasks.cancel(OWNER, task.id)
  await restart()
  expect(await task.done()).toMatchObject({ status: 'cancelled', files: [{ path: 'kept.txt' }] })
})

test('a task that was collecting when its orchestrator was killed is collected anew', async () => {
  const task = await running()
  const asked = Promise.withResolvers<void>()
  task.guest.onChanges = () => {
    asked.resolve()
    return new Promise(() => {})
  }
  task.process.end({ code: 3 })
  await asked.promise
  task.guest.onChanges = async () => {}
  await restart()
  expect(await task.done()).toMatchObject({ status: 'failed', exitCode: 3, files: [{ path: 'kept.txt' }] })
})

test('a task whose agent was not started is queued again; one that waits still waits', async () => {
  const begun = Promise.withResolvers<void>()
  current().machines.boot = () => {
    begun.resolve()
    return new Promise(() => {})
  }
  const starting = await current().tasks.submit(OWNER, request({ memoryMib: 8192 }))
  const waiting = await current().tasks.submit(OWNER, request())
  await begun.promise
  current().machines.boot = async () => {}
  await restart()
  for (const { id } of [starting, waiting]) {
    expect(await current().tasks.wait(OWNER, id, { timeoutMs: 10_000 })).toMatchObject({ status: 'succeeded' })
    const log = current().events.log.get(id) ?? []
    expect(log.filter((event) => event.type === 'status' && event.status === 'succeeded')).toHaveLength(1)
  }
})

test('a task whose machine is gone is interrupted', async () => {
  const task = await running()
  current().machines.alive.delete(task.vmId)
  await restart()
  expect(await task.done()).toMatchObject({ status: 'interrupted', error: { code: 'interrupted', message: /gone/ } })
})

test('a task whose machine died meanwhile is interrupted, with what its disk holds', async () => {
  const task = await running()
  current().machines.crashed.set(task.vmId, 'killed by SIGKILL')
  await restart()
  const ended = await task.done()
  expect(ended).toMatchObject({ status: 'interrupted', files: [{ path: 'kept.txt' }] })
  expect(ended.error?.message).toMatch(/killed by SIGKILL.*read from its disk/)
  expect(current().machines.calls).toContain(`resume ${task.vmId}`)
})

test('a task of which all was brought back ends as its agent did, whatever is left of its machine', async () => {
  for (const isLeft of [false, true]) {
    const task = await running()
    const before = current()
    const entry = before.machines.alive.get(task.vmId)
    const destroyed = Promise.withResolvers<void>()
    before.machines.watch((info) => {
      if (info.state !== 'gone') return
      before.events.isKilled = true
      destroyed.resolve()
    })
    task.process.end()
    await destroyed.promise
    if (isLeft && entry !== undefined) {
      before.machines.alive.set(task.vmId, entry)
      before.machines.crashed.set(task.vmId, 'killed by SIGKILL')
    }
    task.guest.write('late.txt', 'not asked for any more')
    await restart()
    expect(await task.done()).toMatchObject({ status: 'succeeded', error: null, files: [{ path: 'kept.txt' }] })
    expect(task.statuses().filter((status) => status === 'succeeded')).toHaveLength(1)
    expect(current().machines.calls).not.toContain(`resume ${task.vmId}`)
  }
})

test('the files of a machine that died after its agent had ended are read from its disk, and the task ends as the agent did', async () => {
  const task = await running()
  const asked = Promise.withResolvers<void>()
  task.guest.onChanges = () => {
    asked.resolve()
    return new Promise(() => {})
  }
  task.process.end({ code: 3 })
  await asked.promise
  task.guest.onChanges = async () => {}
  current().machines.crashed.set(task.vmId, 'killed by SIGKILL')
  await restart()
  expect(await task.done()).toMatchObject({ status: 'failed', exitCode: 3, files: [{ path: 'kept.txt' }] })
  expect(current().machines.calls).toContain(`resume ${task.vmId}`)
})

test('what a killed orchestrator left in the journal of a task that is final goes at the next start', async () => {
  const task = await running()
  const run = await database.selectFrom('runs').selectAll().executeTakeFirstOrThrow()
  task.process.end()
  await task.done()
  await database.insertInto('runs').values(run).execute()
  await restart()
  expect(await database.selectFrom('runs').selectAll().execute()).toEqual([])
})

test('a task whose end is in its log has come to that end', async () => {
  const task = await running()
  task.process.end()
  await task.done()
  await database.updateTable('tasks').set({ status: 'collecting', finishedAt: null }).execute()
  await restart()
  expect(await current().tasks.get(OWNER, task.id)).toMatchObject({ status: 'succeeded', finishedAt: /T/ })
  expect(task.statuses().filter((status) => status === 'succeeded')).toHaveLength(1)
})

test('a shutdown suspends what runs, and it goes on by itself at the next start', async () => {
  const task = await running({}, { atShutdown: 'suspend' })
  task.process.print('before\n')
  await expect.poll(task.printed).toEqual(['before\n'])
  await current().tasks[Symbol.asyncDispose]()
  expect(current().machines.calls).toEqual([`suspend ${task.vmId}`, `leave ${task.vmId}`])
  await restart({ isKilled: false })
  await expect.poll(() => current().machines.calls).toContain(`resume ${task.vmId}`)
  task.process.print('after\n')
  task.process.end()
  expect(await task.done()).toMatchObject({ status: 'succeeded' })
  expect(task.printed().join('')).toBe('before\nafter\n')
})

test('a shutdown can leave what runs as it is; what has not begun waits for the next start', async () => {
  const task = await running({}, { atShutdown: 'leave' })
  const begun = Promise.withResolvers<void>()
  current().machines.boot = (options) =>
    new Promise((_, reject) => {
      begun.resolve()
      options.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error))
    })
  const other = await current().tasks.submit(OWNER, request())
  await begun.promise
  await current().tasks[Symbol.asyncDispose]()
  expect(current().machines.calls).toEqual([`leave ${task.vmId}`])
  expect(await database.selectFrom('tasks').select(['id', 'status']).orderBy('createdAt').execute()).toEqual([
    { id: task.id, status: 'running' },
    { id: other.id, status: 'queued' },
  ])
  current().machines.boot = async () => {}
  current().machines.guest = () => new FakeGuest()
  await restart({ isKilled: false })
  task.process.end()
  expect(await task.done()).toMatchObject({ status: 'succeeded' })
  expect(await current().tasks.wait(OWNER, other.id, { timeoutMs: 10_000 })).toMatchObject({ status: 'succeeded' })
})
