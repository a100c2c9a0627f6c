import { expect, test } from 'vitest'
import { agents } from '../agents/agents.ts'
import { VivariumError } from '../contracts/errors.ts'
import type { TaskRequestInput } from '../contracts/task.ts'
import type { FakeProcess } from './testing/fake-guest.ts'
import { RunJournal } from './run-journal.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import { request } from './testing/fake-house.ts'
import { OWNER } from './testing/fake-machines.ts'
import { useHouse } from './testing/house-test.ts'

const OTHER = 'u_0000000000bb'
const WHOLE = { memoryMib: 8192 }

const house = useHouse(agents)
const tasks = () => house.house.tasks

const submit = (fields: Partial<TaskRequestInput> = {}, userId = OWNER) => tasks().submit(userId, request(fields))

/** A task that takes the whole host until the test ends its process. */
async function occupied(): Promise<{ id: string; process: FakeProcess }> {
  const started = Promise.withResolvers<FakeProcess>()
  house.guests((guest) => {
    guest.play = started.resolve
  })
  const { id } = await submit(WHOLE)
  const process = await started.promise
  house.guests()
  return { id, process }
}

/** Makes the next machines fail to boot, each with one of these. */
function bootFailures(...failures: (Error | undefined)[]): void {
  house.house.machines.boot = async () => {
    const failure = failures.shift()
    if (failure !== undefined) throw failure
  }
}

const NO_BOOT = new VivariumError('boot_failed', 'The guest did not boot.')

test('a waiting task says what it waits for and how many are ahead, one that runs does not', async () => {
  const { id, process } = await occupied()
  const [second, third] = [await submit({ memoryMib: 2048 }), await submit()]
  expect(second.queue).toEqual({ position: 1, reason: 'waiting for 2 GiB' })
  expect(third.queue).toEqual({ position: 2, reason: 'waiting for 1 GiB: 1 task ahead' })
  const { items } = await tasks().list(OWNER, { limit: 10 })
  expect(items.map((task) => task.queue?.position ?? null)).toEqual([2, 1, null])
  expect((await tasks().get(OWNER, id)).queue).toBeNull()
  process.end()
  expect(await tasks().wait(OWNER, third.id)).toMatchObject({ status: 'succeeded', queue: null, attempts: 1 })
})

test('nothing is started while the disk is short, and the task says so', async () => {
  house.house.disk.freeBytes = 1024 ** 3
  const { id, queue } = await submit()
  expect(queue).toEqual({ position: 1, reason: 'waiting for 1 GiB of free disk space' })
  house.house.disk.freeBytes = 2 * 1024 ** 3
  house.house.machines.changed()
  expect((await tasks().wait(OWNER, id)).status).toBe('succeeded')
})

test('a task larger than the host is refused at once, also one that was queued before the host became smaller', async () => {
  await expect(submit({ vcpus: 17 })).rejects.toMatchObject({ code: 'machine_too_large', field: 'vcpus' })
  const { process } = await occupied()
  const { id } = await submit()
  const requestJson = JSON.stringify({ ...request({ memoryMib: 9000 }), files: [] })
  await house.house.database.updateTable('tasks').set({ requestJson }).where('id', '=', id).execute()
  await tasks().cancel(OWNER, id)
  await house.house.database
    .updateTable('tasks')
    .set({ status: 'queued', isCancelled: 0 })
    .where('id', '=', id)
    .execute()
  house.house.events.log.get(id)?.splice(0)
  process.end()
  await tasks().recover()
  expect(await tasks().get(OWNER, id)).toMatchObject({ status: 'failed', error: { code: 'machine_too_large' } })
})

test("one user's tasks do not make another's wait", async () => {
  const { process } = await occupied()
  const order: string[] = []
  house.house.events.onEvent = (event) => {
    if (event.type === 'status' && event.status === 'starting' && event.phase === undefined) order.push(event.taskId)
  }
  const mine = [await submit(WHOLE), await submit(WHOLE), await submit(WHOLE)]
  const theirs = await submit(WHOLE, OTHER)
  process.end()
  await Promise.all(mine.map(({ id }) => tasks().wait(OWNER, id)))
  expect(order).toEqual([theirs.id, ...mine.map(({ id }) => id)])
})

test('a task starts when those before it have succeeded', async () => {
  const { id, process } = await occupied()
  const next = await submit({ after: [id, id] })
  expect(next).toMatchObject({ after: [id], queue: { position: null, reason: `waiting for the success of ${id}` } })
  const last = await submit({ after: [id, next.id] })
  process.end()
  expect((await tasks().wait(OWNER, last.id)).status).toBe('succeeded')
  const [first, second, third] = await Promise.all([id, next.id, last.id].map((each) => tasks().get(OWNER, each)))
  expect(second?.startedAt && first?.finishedAt && second.startedAt >= first.finishedAt).toBe(true)
  expect(third?.startedAt && second?.finishedAt && third.startedAt >= second.finishedAt).toBe(true)
  expect((await house.run({ after: [id] })).status).toBe('succeeded')
})

test('a task that was to follow one without success ends without being started, and so do those after it', async () => {
  const { id, process } = await occupied()
  const next = await submit({ after: [id] })
  const last = await submit({ after: [next.id] })
  process.end({ code: 3 })
  expect(await tasks().wait(OWNER, last.id)).toMatchObject({
    status: 'failed',
    attempts: 0,
    error: {
      code: 'prerequisite_failed',
      message: `It was to run after the task ${next.id}, which ended as failed: it was not started.`,
    },
  })
  expect(await tasks().wait(OWNER, next.id)).toMatchObject({ status: 'failed', startedAt: null })
  expect(house.statuses(last.id)).toEqual(['queued', 'failed'])
  await expect(submit({ after: [id] })).rejects.toMatchObject({ code: 'conflict', field: 'after' })
})

test('what is cancelled takes those with it that were to follow', async () => {
  const { process } = await occupied()
  const first = await submit()
  const next = await submit({ after: [first.id] })
  await tasks().cancel(OWNER, first.id)
  expect(await tasks().get(OWNER, next.id)).toMatchObject({ error: { code: 'prerequisite_failed' } })
  process.end()
})

test("only one's own tasks can come before", async () => {
  const { id } = await house.run()
  await expect(submit({ after: [id] }, OTHER)).rejects.toMatchObject({ code: 'not_found', field: 'after' })
  await expect(submit({ after: ['t_00000000zzzz'] })).rejects.toMatchObject({ code: 'not_found', field: 'after' })
  expect((await tasks().list(OTHER, { limit: 10 })).items).toEqual([])
})

test('after a restart tasks still wait for those before them, and learn how they ended meanwhile', async () => {
  const ended = [await house.run(), await house.run()]
  const followers = await Promise.all(ended.map(({ id }) => house.run({ after: [id] })))
  const set = (id: string, status: string) =>
    house.house.database.updateTable('tasks').set({ status }).where('id', '=', id).execute()
  await set(ended[1]?.id ?? '', 'failed')
  for (const { id } of followers) {
    await set(id, 'queued')
    house.house.events.log.get(id)?.splice(1)
  }
  await tasks().recover()
  const after = await Promise.all(followers.map(({ id }) => tasks().wait(OWNER, id)))
  expect(after.map(({ status }) => status)).toEqual(['succeeded', 'failed'])
  expect(after[1]?.error?.code).toBe('prerequisite_failed')
})

test('a machine that does not boot is tried again, in the open, and the task comes to its end', async () => {
  bootFailures(NO_BOOT, new VivariumError('engine_failed', 'No VMM today.'))
  const task = await house.run()
  expect(task).toMatchObject({ status: 'succeeded', attempts: 3, error: null })
  const attempt = ['queued', 'starting']
  expect(house.statuses(task.id)).toEqual([...attempt, ...attempt, ...attempt, 'running', 'collecting', 'succeeded'])
  expect(house.logged(task.id)).toEqual([
    'The task is started again: attempt 1 of at most 3 failed: The guest did not boot.',
    'The task is started again: attempt 2 of at most 3 failed: No VMM today.',
  ])
})

test('it is tried so often, and no oftener', async () => {
  bootFailures(NO_BOOT, NO_BOOT, NO_BOOT, NO_BOOT)
  expect(await house.run()).toMatchObject({ status: 'failed', attempts: 3, error: { code: 'boot_failed' } })
})

test('a task whose machine is lost before its agent is started runs again, in a new one, when the old one is gone', async () => {
  const alive: number[] = []
  const guests = house.guests((guest) => {
    alive.push(house.house.machines.alive.size)
    if (alive.length > 1) return
    guest.exec = () => {
      guest.lose('QEMU was ended by SIGKILL')
      throw new VivariumError('guest_lost', 'The machine is gone.')
    }
  })
  const task = await house.run({ repo: { url: 'https://git.example/x.git' } })
  expect(task).toMatchObject({ status: 'succeeded', attempts: 2 })
  expect([alive, guests.map((guest) => guest.processes.size)]).toEqual([
    [0, 0],
    [0, 1],
  ])
})

test('work that may have had effects is not repeated, unless its user wants that; nothing of it is left then', async () => {
  const lost = () =>
    house.guests((guest) => {
      guest.write('half.txt', 'half')
      guest.play = (process) => {
        process.print('so far')
        setTimeout(() => guest.lose('QEMU was ended by SIGKILL'), 10)
      }
    })
  lost()
  expect(await house.run()).toMatchObject({ status: 'failed', attempts: 1, error: { code: 'guest_lost' } })
  lost()
  expect(await house.run({ requeue: true })).toMatchObject({ status: 'failed', attempts: 3, requeue: true })
})

test('a task that is to be tried again can be cancelled meanwhile', async () => {
  bootFailures(NO_BOOT)
  const again = Promise.withResolvers<string>()
  house.house.events.onEvent = (event) => {
    if (event.type === 'log' && event.message.startsWith('The task is started again')) again.resolve(event.taskId)
  }
  await submit()
  const id = await again.promise
  await tasks().cancel(OWNER, id)
  expect(await tasks().wait(OWNER, id)).toMatchObject({ status: 'cancelled', attempts: 1 })
})

test('a task whose user does not want it any more is not tried again', async () => {
  const booting = Promise.withResolvers<void>()
  const go = Promise.withResolvers<void>()
  house.house.machines.boot = async () => {
    booting.resolve()
    await go.promise
    throw NO_BOOT
  }
  const { id } = await submit()
  await booting.promise
  await tasks().cancel(OWNER, id)
  go.resolve()
  expect(await tasks().wait(OWNER, id)).toMatchObject({ status: 'cancelled', attempts: 1 })
})

test('a machine that its user destroys ends its task', async () => {
  const { id } = await occupied()
  const { machines } = house.house
  const machine = machines.list().find((info) => info.taskId === id)
  const error = { code: 'machine_destroyed' as const, message: 'The machine was destroyed by its user.' }
  machines.become(machine?.id ?? '', 'stopping', { error })
  machines.alive.get(machine?.id ?? '')?.guest.lose(error.message)
  expect(await tasks().wait(OWNER, id)).toMatchObject({ status: 'failed', error, attempts: 1 })
})

test('a restart does not give a task more attempts than it has', async () => {
  const { id, vmId } = await house.run({ requeue: true })
  const { database, events } = house.house
  const left = async (attempts: number) => {
    await database.updateTable('tasks').set({ status: 'running', attempts }).where('id', '=', id).execute()
    const start = { sessionId: '', resumes: null, credentialKind: undefined }
    const clock = { ranMs: 0, clockAt: null }
    const run = { machineId: vmId ?? '', execId: 'x_000000000001', start, keepUntil: null, clock }
    await new RunJournal(database, SOUND_STORAGE).begin(id, run)
    events.log.get(id)?.splice(3)
    await tasks().recover()
    return tasks().wait(OWNER, id)
  }
  expect(await left(2)).toMatchObject({ status: 'succeeded', attempts: 3 })
  expect(await left(3)).toMatchObject({ status: 'interrupted', attempts: 3, error: { code: 'interrupted' } })
})

test('a task that a shutdown finds before its agent is started stays queued', async () => {
  const booting = Promise.withResolvers<void>()
  house.house.machines.boot = async ({ signal }) => {
    booting.resolve()
    await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))
  }
  const { id } = await submit()
  await booting.promise
  await tasks()[Symbol.asyncDispose]()
  expect(await tasks().get(OWNER, id)).toMatchObject({ status: 'queued', attempts: 0, startedAt: null, vmId: null })
})

test('a full queue refuses, and says when to come again', async () => {
  const { process } = await occupied()
  const ids: string[] = []
  const refused = await (async () => {
    for (;;) ids.push((await submit()).id)
  })().catch((error: unknown) => error)
  expect(refused).toMatchObject({ code: 'queue_full', retryAfterSeconds: expect.any(Number) })
  expect(ids).toHaveLength(8)
  expect((await submit({}, OTHER)).status).toBe('queued')
  process.end()
  await Promise.all(ids.map((id) => tasks().wait(OWNER, id)))
})
