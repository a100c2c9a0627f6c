/**
 * `npm run crash-test`: kills the orchestrator 200 times under load, at every named point and at random moments, and proves that
 * nothing was lost. `-- --seed N` repeats a run, `-- --kills N` makes it shorter, `-- --without-machines` leaves out what needs a VM.
 */
import { parseArgs } from 'node:util'
import { printTable } from '../bench/report.ts'
import { campaign } from '../crash/campaign.ts'
import { machineSteps } from '../crash/machine-steps.ts'
import { seeded } from '../crash/random.ts'
import { buildAssets } from './build-assets.ts'
import { setUp } from './set-up.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    kills: { type: 'string', default: '200' },
    'without-machines': { type: 'boolean', default: false },
  },
})
const seed = Number(values.seed)
const say = (line: string) => console.log(line)
const withMachines = !values['without-machines']
if (withMachines) await setUp({ forTests: false })
else await buildAssets()

say(`Seed ${seed}, ${values.kills} kills.`)
const report = await campaign({ seed, kills: Number(values.kills), say })
const violations = [...report.violations, ...(withMachines ? await machineSteps({ random: seeded(seed), say }) : [])]
say('')
printTable([['killed at', 'times'], ...Object.entries(report.kills).map(([point, times]) => [point, String(times)])])
say('')
printTable([['ended', 'tasks'], ...Object.entries(report.endings).map(([ending, tasks]) => [ending, String(tasks)])])
say(`\n${report.accepted} tasks accepted, ${violations.length} violations.`)
for (const violation of violations) say(`- ${violation}`)
if (report.violations.length > 0) say(`The data folder is kept: ${report.home}`)
if (violations.length > 0) process.exitCode = 1
