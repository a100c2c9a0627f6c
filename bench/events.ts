import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { NewEvent } from '../src/contracts/event.ts'
import { newId } from '../src/contracts/ids.ts'
import { openEventLog } from '../src/events/log.ts'
import { openDatabase } from '../src/store/database.ts'
import { printRows, row, type BenchRow } from './report.ts'

const TASKS = 20
const EVENTS_PER_APPEND = 50
const APPENDS_PER_TASK = 40
const EVENTS = TASKS * EVENTS_PER_APPEND * APPENDS_PER_TASK
/** Events a transaction, in the log and in the floor. */
const BATCH = TASKS * EVENTS_PER_APPEND
const RUNS = 5

const EVENT: NewEvent = { type: 'text', text: 'x'.repeat(300) }

/** How fast the event log takes events of many tasks at once, beside `node:sqlite` with the same pragmas, rows and batches. */
export async function run(): Promise<BenchRow[]> {
  const measured: number[] = []
  const floor: number[] = []
  for (let i = 0; i < RUNS; i++) {
    measured.push(await inFolder(logRate))
    floor.push(await inFolder(rawRate))
  }
  const name = `event log, ${TASKS} tasks at once, durable`
  return [row({ name, unit: 'events/s', measured, floor, floorIs: 'node:sqlite, same rows, batches and pragmas' })]
}

async function logRate(dir: string): Promise<number> {
  await using database = await openDatabase(join(dir, 'log.db'))
  await using log = await openEventLog({
    database,
    storage: { persist: (work) => work() },
    payloadDir: join(dir, 'payloads'),
    maxBatchEvents: BATCH,
  })
  const events = Array.from({ length: EVENTS_PER_APPEND }, () => EVENT)
  const start = performance.now()
  const appends = Array.from({ length: TASKS }, () => newId('t')).flatMap((taskId) =>
    Array.from({ length: APPENDS_PER_TASK }, () => log.append(taskId, events)),
  )
  await Promise.all(appends)
  return (EVENTS / (performance.now() - start)) * 1000
}

async function rawRate(dir: string): Promise<number> {
  using sqlite = new DatabaseSync(join(dir, 'raw.db'))
  sqlite.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
  sqlite.exec(`CREATE TABLE events (task_id text NOT NULL, seq bigint NOT NULL, at text NOT NULL, type text NOT NULL,
    body_json text NOT NULL, payload_bytes bigint, PRIMARY KEY (task_id, seq))`)
  const insert = sqlite.prepare('INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)')
  const taskIds = Array.from({ length: TASKS }, () => newId('t'))
  const { type, ...fields } = EVENT
  const start = performance.now()
  for (let seq = 0; seq < EVENTS / TASKS;) {
    sqlite.exec('BEGIN')
    for (let i = 0; i < BATCH / TASKS; i++) {
      seq += 1
      for (const taskId of taskIds) {
        insert.run(taskId, seq, new Date().toISOString(), type, JSON.stringify(fields), null)
      }
    }
    sqlite.exec('COMMIT')
  }
  return (EVENTS / (performance.now() - start)) * 1000
}

async function inFolder(measure: (dir: string) => Promise<number>): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), 'vivarium-bench-'))
  try {
    return await measure(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

if (import.meta.main) printRows(await run())
