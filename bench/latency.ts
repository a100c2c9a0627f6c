import { openScene } from '../test/scale/scene.ts'
import { startBareServer } from './bare-readers.ts'
import type { Lab } from './lab.ts'
import { row, type BenchRow } from './report.ts'

const TASKS = [1, 50, 200]
/** Of each task: ten lines a second for some seconds. */
const PLAY = { lines: 50, everyMs: 100, bytes: 200 }
const DEADLINE_MS = 120_000

/**
 * From the moment at which a simulated agent prints a line to the moment at which a WebSocket reader in another process has it: stored,
 * with FULL, in between. The tasks run at once, each with a reader of its own.
 */
export async function run({ runs, signal }: Pick<Lab, 'runs' | 'signal'>): Promise<BenchRow[]> {
  const rows: BenchRow[] = []
  for (const tasks of TASKS) {
    const [half, most] = [0.5, 0.99].map((share) => ({ share, measured: [] as number[], floor: [] as number[] }))
    for (let i = 0; i < runs; i++) {
      signal.throwIfAborted()
      const [measured, floor] = [await latencies(tasks), await bareLatencies(tasks)]
      for (const each of [half, most]) {
        each?.measured.push(quantile(measured, each.share))
        each?.floor.push(quantile(floor, each.share))
      }
    }
    for (const each of [half, most]) {
      if (each === undefined) continue
      const name = `guest write → reader, ${tasks === 1 ? '1 task' : `${tasks} tasks at once`}, p${each.share * 100}`
      rows.push(row({ name, unit: 'ms', ...each, floorIs: 'the same lines over bare WebSockets, nothing stored' }))
    }
  }
  return rows
}

async function latencies(tasks: number): Promise<number[]> {
  await using scene = await openScene()
  const ids = await scene.submit(tasks, PLAY)
  scene.read(ids.map((taskId) => ({ taskId, by: 'websocket', isSlow: false })))
  // What was printed before its reader had come waited for that.
  await scene.until(({ connected }) => connected === tasks, DEADLINE_MS)
  await scene.report()
  return (await scene.until(({ ended }) => ended === tasks, DEADLINE_MS)).latencies
}

async function bareLatencies(tasks: number): Promise<number[]> {
  await using server = await startBareServer()
  return await server.latencies(tasks, PLAY) // which needs the server to its end
}

/** The value that `share` of all are at most. Throws for an empty list. */
function quantile(values: number[], share: number): number {
  const value = values.toSorted((a, b) => a - b)[Math.ceil(share * values.length) - 1]
  if (value === undefined) throw new RangeError('quantile of nothing')
  return value
}
