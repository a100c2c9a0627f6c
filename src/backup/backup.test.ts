import { existsSync, renameSync } from 'node:fs'
import { appendFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createDiskBlobs } from '../blobs/disk.ts'
import type { Blobs } from '../blobs/types.ts'
import { newId } from '../contracts/ids.ts'
import { openEventLog } from '../events/log.ts'
import type { EventLog } from '../events/types.ts'
import { createRemoval } from '../retention/removal.ts'
import { openDatabase, type Database } from '../store/database.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import { blobKeys } from '../tasks/blob-keys.ts'
import type { Logger } from '../telemetry/types.ts'
import { createBackup } from './create.ts'
import { keepDailyBackups, newestBackup } from './daily.ts'
import { openOrNameBackup } from './damaged.ts'
import { restoreBackup } from './restore.ts'
import { completeSwap, STAGING } from './swap.ts'

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT }
const signal = new AbortController().signal

let dir: string
let home: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vivarium-backup-'))
  home = join(dir, 'home')
  await mkdir(home)
})
afterEach(() => rm(dir, { recursive: true, force: true }))

interface House extends AsyncDisposable {
  database: Database
  blobs: Blobs
  events: EventLog
}

/** What writes to a data folder while it is backed up. */
async function openHouse(): Promise<House> {
  await using stack = new AsyncDisposableStack()
  const database = stack.use(await openDatabase(join(home, 'vivarium.db')))
  const blobs = await createDiskBlobs(join(home, 'blobs'))
  const payloadDir = join(home, 'payloads')
  const events = stack.use(await openEventLog({ database, storage: SOUND_STORAGE, payloadDir }))
  const ownership = stack.move()
  return { database, blobs, events, [Symbol.asyncDispose]: () => ownership.disposeAsync() }
}

/** A finished task with one result and events, one of them large; its row comes last, as in a real one. */
async function addTask({ database, blobs, events }: House, words: string): Promise<string> {
  const id = newId('t')
  const at = new Date().toISOString()
  await events.append(id, [
    { type: 'text', text: words },
    { type: 'text', text: words.repeat(20_000) },
  ])
  await blobs.put(blobKeys.file(id, 'result.txt'), Buffer.from(words))
  await database
    .insertInto('resultFiles')
    .values({ taskId: id, path: 'result.txt', size: words.length, mimeType: 'text/plain' })
    .execute()
  await database
    .insertInto('tasks')
    .values({
      id,
      userId: 'u_1',
      status: 'succeeded',
      requestJson: '{}',
      priority: 'normal',
      requestHash: '',
      createdAt: at,
      finishedAt: at,
      costUsd: 0,
      inputTokens: 0,
      outputTokens: 0,
      cacheReadTokens: 0,
      cacheWriteTokens: 0,
      turns: 0,
      phasesJson: '[]',
    })
    .execute()
  return id
}

/** All that a data folder says of its tasks; fails where a row promises what is not there. */
async function contents({ database, blobs, events }: House) {
  const tasks = await database.selectFrom('tasks').select(['id', 'removedJson']).orderBy('id').execute()
  const all = tasks.map(async ({ id, removedJson }) => {
    const rows = await database.selectFrom('resultFiles').select('path').where('taskId', '=', id).execute()
    const files = rows.map(async ({ path }) => {
      const body = await blobs.get(blobKeys.file(id, path))
      if (body === undefined) throw new Error(`${id} has lost ${path}`)
      return text(body)
    })
    return { id, removedJson, events: await events.read(id, 1, 100), files: await Promise.all(files) }
  })
  return Promise.all(all)
}

const back = (destination: string, more: { masterKey?: boolean; machines?: boolean } = {}) =>
  createBackup({ home, destination, masterKey: false, machines: false, signal, ...more })

test('a backup taken and restored gives the same tasks, events and files; what was there is kept aside', async () => {
  await writeFile(join(home, 'master.key'), 'key')
  await writeFile(join(home, 'vivarium.json'), '{}')
  const destination = join(dir, 'backup')
  let before
  {
    await using house = await openHouse()
    for (const words of ['one ', 'two ', 'three ']) await addTask(house, words)
    before = await contents(house)
    expect(await back(destination)).toMatchObject({ format: 1, masterKey: false, machines: [] })
    await addTask(house, 'later ')
  }
  expect((await readdir(join(destination, 'data'))).toSorted()).toEqual([
    'blobs',
    'payloads',
    'vivarium.db',
    'vivarium.json',
  ])
  const aside = await restoreBackup({ home, from: destination, signal })
  expect(await readFile(join(home, 'master.key'), 'utf8')).toBe('key')
  expect(await readdir(home)).not.toContain(STAGING)
  {
    await using house = await openHouse()
    expect(await contents(house)).toEqual(before)
    await addTask(house, 'goes on ')
  }
  // Neither the backup nor what was there before has changed by it.
  await restoreBackup({ home, from: destination, signal })
  await using house = await openHouse()
  expect(await contents(house)).toEqual(before)
  const old = new DatabaseSync(join(aside, 'vivarium.db'), { readOnly: true })
  expect(old.prepare('SELECT count(*) AS n FROM tasks').get()).toEqual({ n: 4 })
  old.close()
})

test('a backup beside a writer is of one moment: whatever it has of a task is whole', async () => {
  await using house = await openHouse()
  const ids = [await addTask(house, 'first ')]
  const done = new AbortController()
  const removal = createRemoval(house)
  const writing = (async () => {
    for (let i = 0; !done.signal.aborted; i++) {
      ids.push(await addTask(house, `task ${i} `))
      if (i % 3 === 0) await removal.take(ids[i] ?? '', 'files', 'retention.resultsDays')
      if (i % 5 === 0) await removal.forget(ids[i] ?? '')
    }
  })()
  for (let i = 0; i < 3; i++) await back(join(dir, `backup-${i}`))
  done.abort()
  await writing
  await house[Symbol.asyncDispose]()
  for (let i = 0; i < 3; i++) {
    await restoreBackup({ home, from: join(dir, `backup-${i}`), signal })
    await using restored = await openHouse()
    for (const task of await contents(restored)) {
      expect(task.events.map(({ seq }) => seq)).toEqual([1, 2])
      expect(task.files).toHaveLength(task.removedJson === '{}' ? 1 : 0)
    }
  }
})

test('a backup that was killed in the middle does not look whole, and the next one is not hindered by it', async () => {
  const destination = join(dir, 'backup')
  {
    await using house = await openHouse()
    await addTask(house, 'one ')
    const killed = AbortSignal.abort(new Error('killed'))
    await expect(
      createBackup({ home, destination, masterKey: false, machines: false, signal: killed }),
    ).rejects.toThrow('killed')
    expect(await readdir(dir)).toEqual(['home'])
    await mkdir(join(`${destination}.partial`, 'data'), { recursive: true })
  }
  await expect(restoreBackup({ home, from: `${destination}.partial`, signal })).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('never finished'),
  })
  await back(destination)
  await expect(back(destination)).rejects.toMatchObject({ code: 'conflict' })
  expect(await readdir(dir)).toEqual(['backup', 'home'])
})

test('a damaged backup is refused and changes nothing', async () => {
  const destination = join(dir, 'backup')
  let before
  {
    await using house = await openHouse()
    await addTask(house, 'one ')
    await back(destination)
    before = await contents(house)
  }
  const data = join(destination, 'data')
  const payload = join(data, 'payloads', before[0]?.id ?? '', '2.json')
  const sound = await readFile(payload)
  await rm(payload)
  await writeFile(payload, sound.with(5, 1))
  const damaged = { code: 'invalid_request', message: expect.stringContaining('damaged') }
  await expect(restoreBackup({ home, from: destination, signal })).rejects.toMatchObject(damaged)
  await rm(payload)
  await writeFile(payload, sound)
  await appendFile(join(destination, 'files.ndjson'), '{"path":"../../etc/passwd","bytes":1,"sha256":""}\n')
  await expect(restoreBackup({ home, from: destination, signal })).rejects.toMatchObject(damaged)
  await using house = await openHouse()
  expect(await contents(house)).toEqual(before)
})

test('a backup of a newer program is refused', async () => {
  const destination = join(dir, 'newer.db')
  {
    await using house = await openHouse()
    await addTask(house, 'one ')
  }
  await writeFile(destination, await readFile(join(home, 'vivarium.db')))
  const newer = new DatabaseSync(destination)
  newer.exec("INSERT INTO kysely_migration (name, timestamp) VALUES ('9999-later', '')")
  newer.close()
  await expect(restoreBackup({ home, from: destination, signal })).rejects.toThrow(/newer Vivarium/)
  await using house = await openHouse()
  expect(await contents(house)).toHaveLength(1)
})

test('a restore that is killed at any step is ended by the next start, or has not begun', async () => {
  const destination = join(dir, 'backup')
  let before
  {
    await using house = await openHouse()
    await addTask(house, 'one ')
    before = await contents(house)
    await back(destination)
    await addTask(house, 'later ')
  }
  // Not yet decided: what was put together is thrown away.
  await mkdir(join(home, STAGING))
  completeSwap(home)
  expect(await readdir(home)).not.toContain(STAGING)

  const entries = ['vivarium.db', 'vivarium.db-wal', 'blobs', 'payloads', 'machines']
  for (let moved = 0; moved <= 6; moved++) {
    await restoreBackup({ home, from: destination, signal })
    {
      await using house = await openHouse()
      await addTask(house, 'later ')
    }
    // Put together and decided, and killed after so many moves.
    const aside = `aside-${moved}`
    await mkdir(join(home, aside))
    await mkdir(join(home, STAGING))
    const staged = ['vivarium.db', 'blobs', 'payloads']
    for (const name of staged) await cp(join(destination, 'data', name), join(home, STAGING, name), { recursive: true })
    const steps = [
      ...staged.map((name) => () => renameSync(join(home, name), join(home, aside, name))),
      ...staged.map((name) => () => renameSync(join(home, STAGING, name), join(home, name))),
    ]
    for (const step of steps.slice(0, moved)) step()
    const phase = moved <= 3 ? 'out' : 'in'
    await writeFile(join(home, 'restore.json'), JSON.stringify({ phase, aside, entries }))
    completeSwap(home)
    completeSwap(home)
    await using house = await openHouse()
    expect(await contents(house)).toEqual(before)
    expect(existsSync(join(home, 'restore.json'))).toBe(false)
  }
})

test('suspended machines come with a backup that is asked for them, running ones never', async () => {
  const machine = (id: string, state: string) => ({
    id,
    userId: 'u_1',
    taskId: null,
    engine: 'qemu-tcg',
    memoryMib: 512,
    vcpus: 1,
    runDir: '',
    diskDir: '',
    uid: null,
    pid: null,
    startTime: null,
    createdAt: '',
    state,
    keepUntil: '2099-01-01T00:00:00.000Z',
  })
  const [asleep, awake] = [newId('vm'), newId('vm')]
  {
    await using house = await openHouse()
    await house.database
      .insertInto('machines')
      .values([machine(asleep, 'suspended'), machine(awake, 'running')])
      .execute()
    for (const id of [asleep, awake]) {
      await mkdir(join(home, 'machines', id), { recursive: true })
      await writeFile(join(home, 'machines', id, 'state'), id)
    }
    expect(await back(join(dir, 'without'))).toMatchObject({ machines: [] })
    expect(await back(join(dir, 'with'), { machines: true })).toMatchObject({ machines: [asleep] })
  }
  const machines = async () => {
    await using house = await openHouse()
    return (await house.database.selectFrom('machines').select('id').execute()).map(({ id }) => id)
  }
  await restoreBackup({ home, from: join(dir, 'with'), signal })
  expect([await machines(), await readdir(join(home, 'machines'))]).toEqual([[asleep], [asleep]])
  await restoreBackup({ home, from: join(dir, 'without'), signal })
  expect([await machines(), existsSync(join(home, 'machines'))]).toEqual([[], false])
})

test('a damaged database is refused with the newest backup and the command that takes it, which works', async () => {
  {
    await using house = await openHouse()
    for (let i = 0; i < 20; i++) await addTask(house, `task ${i} `)
    await using _daily = keepDailyBackups({ home, keep: 2, log: SILENT })
  }
  const path = join(home, 'vivarium.db')
  const sound = await readFile(path)
  const open = () => openOrNameBackup(home, () => openDatabase(path))
  await writeFile(path, Buffer.concat([Buffer.from('not a database'), sound.subarray(14)]))
  const backup = await newestBackup(home)
  const advice = expect.stringContaining(`"vivarium restore ${backup?.path}"`)
  await expect(open()).rejects.toMatchObject({ code: 'storage_failed', message: advice })

  // Damage further in is looked for when the last user did not close the file.
  await writeFile(path, Buffer.concat([sound.subarray(0, 8192), Buffer.alloc(8192, 7), sound.subarray(16_384)]))
  const killed = new DatabaseSync(path)
  await writeFile(`${path}-wal`, Buffer.alloc(1))
  await expect(open()).rejects.toMatchObject({ code: 'storage_failed', message: advice })
  killed.close()

  await restoreBackup({ home, from: backup?.path ?? '', signal })
  await using house = await openHouse()
  expect(await contents(house)).toHaveLength(20)
})

test('the database is copied once a day, and so many days are kept', async () => {
  await using _house = await openHouse()
  const folder = join(home, 'backups')
  await mkdir(folder)
  for (const day of ['2020-01-01', '2020-01-02', '2020-01-03']) await writeFile(join(folder, `daily-${day}.db`), '')
  for (let i = 0; i < 2; i++) await keepDailyBackups({ home, keep: 2, log: SILENT })[Symbol.asyncDispose]()
  const today = `daily-${new Date().toISOString().slice(0, 10)}.db`
  expect((await readdir(folder)).toSorted()).toEqual(['daily-2020-01-03.db', today])
})
