/**
 * `npm run bench`: measures what people wait for, each beside its floor in the same run, and prints one table. `-- --full`
 * repeats the slow measurements ten times instead of three, `-- --only ready,exec` measures the parts named.
 * Use an otherwise idle machine.
 */
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import * as coldStart from '../bench/cold-start.ts'
import * as events from '../bench/events.ts'
import * as exec from '../bench/exec.ts'
import * as gateway from '../bench/gateway.ts'
import { openLab, type Lab } from '../bench/lab.ts'
import * as latency from '../bench/latency.ts'
import * as memory from '../bench/memory.ts'
import * as readers from '../bench/readers.ts'
import * as ready from '../bench/ready.ts'
import { printRows, printTable, short, type BenchRow } from '../bench/report.ts'
import type { PhaseTimes } from '../bench/phases.ts'
import * as stream from '../bench/stream.ts'
import * as tasks from '../bench/tasks.ts'
import * as templateStart from '../bench/template-start.ts'
import { setUp } from './set-up.ts'

/** What one part has found. */
interface Findings {
  rows: BenchRow[]
  /** Where the time goes. */
  phases?: PhaseTimes
  /** A sentence for below the table. */
  note?: string
}

/** In the order in which they are measured. */
const PARTS: Record<string, (lab: Lab) => Promise<Findings>> = {
  cold: coldStart.run,
  template: templateStart.run,
  ready: ready.run,
  memory: async (lab) => ({ rows: [], note: memory.inWords(await memory.run(lab)) }),
  exec: async (lab) => ({ rows: await exec.run(lab) }),
  output: async (lab) => ({ rows: await stream.run(lab) }),
  log: async () => ({ rows: await events.run() }),
  tasks: async (lab) => ({ rows: await tasks.run(lab) }),
  latency: async (lab) => ({ rows: await latency.run(lab) }),
  readers: async (lab) => ({ rows: await readers.run(lab) }),
  gateway: async () => {
    const rows = await gateway.run()
    return { rows, note: gateway.added(rows) }
  },
}

const { values } = parseArgs({ options: { full: { type: 'boolean', default: false }, only: { type: 'string' } } })
const names = values.only?.split(',') ?? Object.keys(PARTS)
const unknown = names.find((name) => !Object.hasOwn(PARTS, name))
if (unknown !== undefined)
  throw new Error(`There is no part "${unknown}"; there are: ${Object.keys(PARTS).join(', ')}.`)
const abort = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.once(name, () => abort.abort(new Error(`stopped by ${name}`)))

await setUp({ forTests: false })
const [loadBefore = 0] = loadavg()
await using lab = await openLab({ runs: values.full ? 10 : 3, signal: abort.signal })
const found: [string, Findings][] = []
for (const name of names) {
  console.error(`Measuring ${name} …`)
  const part = PARTS[name]
  if (part !== undefined) found.push([name, await part(lab)])
}

const gib = short(totalmem() / 1024 ** 3)
const { accel, qemu, image } = lab.host
console.log(
  `${availableParallelism()} cores (${cpus()[0]?.model ?? 'unknown'}), ${gib} GiB, Node ${process.version}, load before: ${short(loadBefore)}`,
)
console.log(`QEMU ${qemu.version.text}, ${accel}, guest kernel ${image.manifest.kernelVersion}\n`)
printRows(found.flatMap(([, { rows }]) => rows))
for (const [, { note }] of found) if (note !== undefined) console.log(`\n${note}`)
for (const [name, { phases }] of found) {
  if (phases === undefined) continue
  console.log(`\nWhere the time goes: ${name} (medians):\n`)
  printTable([['step', 'ms'], ...phases.map((phase) => [phase.name, short(phase.ms)])])
}
