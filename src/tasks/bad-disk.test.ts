import { Readable } from 'node:stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { agents } from '../agents/agents.ts'
import { VivariumError } from '../contracts/errors.ts'
import { openDatabase } from '../store/database.ts'
import type { Storage } from '../store/types.ts'
import { FakeGuest } from './testing/fake-guest.ts'
import type { FakeProcess } from './testing/fake-guest.ts'
import { fakeHouse, request } from './testing/fake-house.ts'
import { OWNER } from './testing/fake-machines.ts'

const FULL = 'The disk of the data folder is full.'

/** A disk whose state the test sets. */
class PlayedStorage implements Storage {
  lastProblem: string | undefined
  holdsBack = false
  readonly #listeners = new Set<() => void>()

  set(problem: string | undefined, holdsBack = problem !== undefined): void {
    this.lastProblem = problem
    this.holdsBack = holdsBack
    for (const listener of this.#listeners) listener()
  }

  async problem(): Promise<string | undefined> {
    return this.lastProblem
  }

  async persist<Result>(work: () => Promise<Result>): Promise<Result> {
    return work()
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  hurry(): void {}
}

let house: ReturnType<typeof fakeHouse>
let storage: PlayedStorage
beforeEach(async () => {
  storage = new PlayedStorage()
  house = fakeHouse(await openDatabase(':memory:'), agents, {}, { storage })
})
afterEach(async () => {
  await house.tasks[Symbol.asyncDispose]()
  await house.database.destroy()
})

/** Resolves with the process of the next task that runs. */
function running(files: string[] = []): Promise<FakeProcess> {
  const started = Promise.withResolvers<FakeProcess>()
  const guest = new FakeGuest()
  for (const path of files) guest.write(path, path)
  guest.play = started.resolve
  house.machines.guest = () => guest
  return started.promise
}

test('disk full: what is new is refused whole with the reason, what waits goes on waiting, and both go on when there is room', async () => {
  const process = running()
  const { id: first } = await house.tasks.submit(OWNER, request({ memoryMib: 8192 }))
  await process
  const { id: waiting } = await house.tasks.submit(OWNER, request({ memoryMib: 8192 }))
  storage.set(FULL)
  const refused = { code: 'storage_failed', message: FULL }
  const file = { path: 'a', contentBase64: 'AAAA' }
  await expect(house.tasks.submit(OWNER, request({ files: [file] }))).rejects.toMatchObject(refused)
  await expect(house.tasks.upload(OWNER, Readable.from(['tar']))).rejects.toMatchObject(refused)
  expect([...house.blobs.bytes.keys()]).toEqual([])
  ;(await process).end()
  expect(await house.tasks.wait(OWNER, first)).toMatchObject({ status: 'succeeded' })
  expect(await house.tasks.get(OWNER, waiting)).toMatchObject({ status: 'queued' })
  await expect(house.tasks.fork(OWNER, first, { prompt: 'x', count: 1 })).rejects.toMatchObject(refused)
  const next = running()
  storage.set(undefined)
  ;(await next).end()
  expect(await house.tasks.wait(OWNER, waiting)).toMatchObject({ status: 'succeeded' })
  expect((await house.tasks.list(OWNER, { limit: 10 })).items).toHaveLength(2)
})

test("disk full: a task's time limit stands still while it is held back", async () => {
  const started = running()
  const { id } = await house.tasks.submit(OWNER, request({ timeoutSeconds: 1 }))
  const process = await started
  storage.set(FULL)
  await new Promise((resolve) => setTimeout(resolve, 1200))
  expect(await house.tasks.get(OWNER, id)).toMatchObject({ status: 'running' })
  storage.set(undefined)
  process.end()
  expect(await house.tasks.wait(OWNER, id)).toMatchObject({ status: 'succeeded' })
})

test('disk full, results: files that do not fit are named in the log, the others come back', async () => {
  const started = running(['small', 'large'])
  const { id } = await house.tasks.submit(OWNER, request())
  const put = house.blobs.put.bind(house.blobs)
  house.blobs.put = async (key, body, options) => {
    if (key.endsWith('/large')) throw new VivariumError('storage_failed', `"${key}" can't be stored: ENOSPC`)
    return put(key, body, options)
  }
  const process = await started
  process.end()
  const task = await house.tasks.wait(OWNER, id)
  expect(task.files.map(({ path }) => path)).toEqual(['small'])
  const logged = (house.events.log.get(id) ?? []).flatMap((event) => (event.type === 'log' ? [event.message] : []))
  expect(logged).toContainEqual(expect.stringMatching(/1 of 2 files did not come back.*large.*ENOSPC/))
})
