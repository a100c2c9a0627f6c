import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { openScene, type Scene } from './scene.ts'

const TASKS = 200
const READERS = 1000
/** To end a hang, not to judge speed. */
const DEADLINE_MS = 240_000
/** Far above what it takes, far below what it would take if slow readers were waited for in memory. */
const MAX_MEMORY_MIB = 700

/** Readers of each kind, spread over tasks; every tenth is slow. */
function spread(taskIds: string[]) {
  return Array.from({ length: READERS }, (_, n) => ({
    taskId: taskIds[n % taskIds.length] ?? '',
    by: n % 2 === Math.floor(n / taskIds.length) % 2 ? ('websocket' as const) : ('sse' as const),
    isSlow: n % 10 === 0,
  }))
}

/** Number of events by task, as they are stored. */
function stored({ home }: Scene): Map<unknown, unknown> {
  using database = new DatabaseSync(join(home, 'vivarium.db'), { readOnly: true })
  const rows = database.prepare('SELECT task_id, max(seq) AS last FROM events GROUP BY task_id').all()
  return new Map(rows.map((row) => [row['task_id'], row['last']]))
}

test('200 tasks at once and 1,000 readers: each reader gets every event once and in order, and slow ones hold nobody up', async () => {
  await using scene = await openScene()
  const taskIds = await scene.submit(TASKS, { lines: 20, everyMs: 200, bytes: 200 })
  const plans = spread(taskIds)
  scene.read(plans)
  const quick = plans.filter(({ isSlow }) => !isSlow).length
  // Slow readers have not gone on, and still every task ends.
  const before = await scene.until(({ ended }) => ended >= quick, DEADLINE_MS)
  expect((await scene.client.tasks.list({ status: 'succeeded', limit: 200 })).items).toHaveLength(TASKS)
  expect(before.violations).toEqual([])
  scene.goOn()
  const { lastSeqs, violations } = await scene.until(({ ended }) => ended === READERS, DEADLINE_MS)
  expect(violations).toEqual([])
  const counts = stored(scene)
  for (const id of taskIds) expect(lastSeqs[id]).toEqual(Array.from({ length: READERS / TASKS }, () => counts.get(id)))
  expect(scene.memoryMib('VmHWM')).toBeLessThan(MAX_MEMORY_MIB)
}, 900_000)

test('readers of a server that is killed come back with their cursor and get exactly the rest', async () => {
  await using scene = await openScene()
  const taskIds = await scene.submit(TASKS, { lines: 10_000, everyMs: 1000, bytes: 200 })
  const running = async () => (await scene.client.tasks.list({ status: 'running', limit: TASKS })).items.length
  await expect.poll(running, { timeout: DEADLINE_MS, interval: 200 }).toBe(TASKS)
  scene.read(spread(taskIds).map((plan) => ({ ...plan, isSlow: false })))
  await scene.until(({ connected }) => connected === READERS, DEADLINE_MS)
  await scene.killAndStart()
  // Simulated machines go with the process: what is to come is the end of each task.
  const { lastSeqs, violations } = await scene.until(({ ended }) => ended === READERS, DEADLINE_MS)
  expect(violations).toEqual([])
  const counts = stored(scene)
  for (const id of taskIds) expect(lastSeqs[id]).toEqual(Array.from({ length: READERS / TASKS }, () => counts.get(id)))
}, 900_000)
