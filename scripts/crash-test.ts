/**
 * `npm run crash-test`: kills the orchestrator 200 times under load, at every named point and at random moments, and proves that
 * nothing was lost. `-- --seed N` repeats a run, `-- --kills N` makes it shorter.
 */
import { parseArgs } from 'node:util'
import { campaign } from '../crash/campaign.ts'
import { printTable } from '../bench/report.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    kills: { type: 'string', default: '200' },
  },
})
const options = { seed: Number(values.seed), kills: Number(values.kills) }
console.log(`Seed ${options.seed}, ${options.kills} kills.`)
const { violations, kills, endings, accepted, home } = await campaign({ ...options, say: (line) => console.log(line) })
console.log()
printTable([['killed at', 'times'], ...Object.entries(kills).map(([point, times]) => [point, String(times)])])
console.log()
printTable([['ended', 'tasks'], ...Object.entries(endings).map(([ending, tasks]) => [ending, String(tasks)])])
console.log(`\n${accepted} tasks accepted, ${violations.length} violations.`)
if (violations.length > 0) {
  console.log(`${violations.map((violation) => `- ${violation}`).join('\n')}\nThe data folder is kept: ${home}`)
  process.exitCode = 1
}
