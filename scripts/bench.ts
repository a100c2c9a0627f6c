/**
 * `npm run bench`: measures what people wait for, each beside its floor in the same run, and prints one table. `-- --full`
 * repeats the slow measurements ten times instead of three, `-- --only gateway` measures the gateway alone, without any machine.
 * Use an otherwise idle machine.
 */
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import * as coldStart from '../bench/cold-start.ts'
import * as events from '../bench/events.ts'
import * as exec from '../bench/exec.ts'
import * as gateway from '../bench/gateway.ts'
import { openLab } from '../bench/lab.ts'
import { printRows, printTable, short } from '../bench/report.ts'
import * as stream from '../bench/stream.ts'
import { setUp } from './set-up.ts'

const { values } = parseArgs({ options: { full: { type: 'boolean', default: false }, only: { type: 'string' } } })
if (values.only === 'gateway') {
  const rows = await gateway.run()
  printRows(rows)
  console.log(`\n${gateway.added(rows)}`)
  process.exit()
}
if (values.only !== undefined)
  throw new Error(`There is no part "${values.only}": only "gateway" can be measured alone.`)
const runs = values.full ? 10 : 3
const abort = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.once(name, () => abort.abort(new Error(`stopped by ${name}`)))

await setUp({ forTests: false })
const [loadBefore = 0] = loadavg()
const say = (what: string) => console.error(`Measuring ${what} …`)
await using lab = await openLab({ runs, signal: abort.signal })
say(`cold starts (${runs} of each kind)`)
const starts = await coldStart.run(lab)
say('exec round trips')
const execs = await exec.run(lab)
say(`output (${runs} of each kind)`)
const streams = await stream.run(lab)
say('the event log')
const log = await events.run()
say('the gateway')
const ways = await gateway.run()

const gib = short(totalmem() / 1024 ** 3)
const { accel, qemu, image } = lab.host
console.log(
  `${availableParallelism()} cores (${cpus()[0]?.model ?? 'unknown'}), ${gib} GiB, Node ${process.version}, load before: ${short(loadBefore)}`,
)
console.log(`QEMU ${qemu.version.text}, ${accel}, guest kernel ${image.manifest.kernelVersion}\n`)
printRows([...starts.rows, ...execs, ...streams, ...log, ...ways])
console.log(`\n${gateway.added(ways)}`)
console.log('\nWhere a cold start goes (medians):\n')
printTable([['step', 'ms'], ...starts.phases.map(({ name, ms }) => [name, short(ms)])])
