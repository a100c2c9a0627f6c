import { setTimeout as sleep } from 'node:timers/promises'
import { openScene } from '../test/scale/scene.ts'
import { startBareServer } from './bare-readers.ts'
import type { Lab } from './lab.ts'
import { row, type BenchRow } from './report.ts'

const TASKS = 50
/** So many that the garbage of their coming is small beside them. */
const READERS = 2000
/** Before the first measurement: what the first readers bring in is not theirs alone. */
const WARM_UP = 200
const REST_MS = 3000
const DEADLINE_MS = 120_000
/** An agent that prints nothing for as long as anybody looks. */
const IDLE = { lines: 1, everyMs: 1e9, bytes: 0 }

/** What an orchestrator takes more for each reader that waits for an event. */
export async function run({ runs, signal }: Pick<Lab, 'runs' | 'signal'>): Promise<BenchRow[]> {
  const rows: BenchRow[] = []
  for (const by of ['websocket', 'sse'] as const) {
    const [measured, floor]: [number[], number[]] = [[], []]
    for (let i = 0; i < runs; i++) {
      signal.throwIfAborted()
      measured.push(await perReader(by))
      floor.push(await perBareReader(by))
    }
    const [name, floorIs] =
      by === 'websocket' ? ['WebSocket', 'a bare ws server'] : ['server-sent events', 'a bare node:http server']
    rows.push(row({ name: `memory of an idle reader, ${name}`, unit: 'KiB', measured, floor, floorIs }))
  }
  return rows
}

async function perReader(by: 'websocket' | 'sse'): Promise<number> {
  await using scene = await openScene()
  const ids = await scene.submit(TASKS, IDLE)
  const open = async (count: number, before: number) => {
    scene.read(Array.from({ length: count }, (_, n) => ({ taskId: ids[n % TASKS] ?? '', by, isSlow: false })))
    await scene.until(({ connected }) => connected === before + count, DEADLINE_MS)
    await sleep(REST_MS)
    return scene.memoryMib('VmRSS')
  }
  const before = await open(WARM_UP, 0)
  return (((await open(READERS, WARM_UP)) - before) * 1024) / READERS
}

async function perBareReader(by: 'websocket' | 'sse'): Promise<number> {
  await using server = await startBareServer()
  const open = async (count: number) => {
    await server.hold(count, by)
    await sleep(REST_MS)
    return server.memoryMib()
  }
  const before = await open(WARM_UP)
  return (((await open(READERS)) - before) * 1024) / READERS
}
