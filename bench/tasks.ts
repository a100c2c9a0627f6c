import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { newId } from '../src/contracts/ids.ts'
import { openScene } from '../test/scale/scene.ts'
import type { Lab } from './lab.ts'
import { row, type BenchRow } from './report.ts'

const TASKS = 500
const POLL_MS = 10

/** Tasks a second from `POST /tasks` to their end, with machines that are there at once and an agent that does nothing. */
export async function run({ runs, signal }: Pick<Lab, 'runs' | 'signal'>): Promise<BenchRow[]> {
  const [measured, floor]: [number[], number[]] = [[], []]
  for (let i = 0; i < runs; i++) {
    signal.throwIfAborted()
    measured.push(await taskRate())
    floor.push(await rawRate())
  }
  const floorIs = 'node:sqlite: two commits a task, to accept and to end it'
  return [row({ name: 'tasks, queue → done, no-op agent', unit: 'tasks/s', measured, floor, floorIs })]
}

async function taskRate(): Promise<number> {
  await using scene = await openScene()
  await scene.submit(20, { lines: 0, everyMs: 0, bytes: 0 }) // what is compiled at first use
  const start = performance.now()
  const ids = await scene.submit(TASKS, { lines: 0, everyMs: 0, bytes: 0 })
  for (const id of ids) while ((await scene.client.tasks.get(id)).finishedAt === null) await sleep(POLL_MS)
  return (TASKS / (performance.now() - start)) * 1000
}

async function rawRate(): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), 'vivarium-bench-'))
  try {
    using sqlite = new DatabaseSync(join(dir, 'raw.db'))
    sqlite.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    sqlite.exec('CREATE TABLE tasks (id text PRIMARY KEY, status text, request text)')
    const insert = sqlite.prepare("INSERT INTO tasks VALUES (?, 'queued', ?)")
    const end = sqlite.prepare("UPDATE tasks SET status = 'succeeded' WHERE id = ?")
    const request = 'x'.repeat(300)
    const start = performance.now()
    for (let i = 0; i < TASKS; i++) {
      const id = newId('t')
      insert.run(id, request)
      end.run(id)
    }
    return (TASKS / (performance.now() - start)) * 1000
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}
