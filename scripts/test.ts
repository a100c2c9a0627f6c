/**
 * `npm test`: sets the host up, then checks, unit tests, a minute of fuzzing, and the tests that boot machines. Ends on one plain line,
 * `N passed, N failed, N skipped`, and fails when anything failed or was skipped: every suite runs on every supported host.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { TARGETS } from '../fuzz/targets.ts'
import { CHECKS } from './check.ts'
import { FUZZ_DEFAULTS, fuzzAll } from './fuzz.ts'
import { setUp } from './set-up.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

interface Count {
  passed: number
  failed: number
  skipped: number
}

const Report = z.object({
  numPassedTests: z.int(),
  numFailedTests: z.int(),
  numPendingTests: z.int(),
  numTodoTests: z.int(),
  success: z.boolean(),
})

function runs(argv: readonly string[]): boolean {
  const [command = '', ...args] = argv
  return spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0
}

function check(): Count {
  const count: Count = { passed: 0, failed: 0, skipped: 0 }
  for (const [name, argv] of Object.entries(CHECKS)) {
    const ok = runs(argv)
    console.log(`${ok ? '✓' : '✗'} ${name}`)
    count[ok ? 'passed' : 'failed'] += 1
  }
  return count
}

/** Runs one vitest project and counts its tests; a project that broke without a failed test counts as one failure. */
function suite(project: string): Count {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-test-'))
  const file = join(folder, 'report.json')
  try {
    const ok = runs([
      'vitest',
      'run',
      '--project',
      project,
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${file}`,
    ])
    const report = Report.parse(JSON.parse(readFileSync(file, 'utf8')))
    const failed = ok ? report.numFailedTests : Math.max(1, report.numFailedTests)
    return { passed: report.numPassedTests, failed, skipped: report.numPendingTests + report.numTodoTests }
  } catch (error) {
    console.error(`The ${project} tests gave no report: ${String(error)}`)
    return { passed: 0, failed: 1, skipped: 0 }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

await setUp({ forTests: true })
const counts = [check(), suite('unit'), { ...(await fuzzAll(TARGETS, FUZZ_DEFAULTS)), skipped: 0 }, suite('vm')]
const total = (key: keyof Count) => counts.reduce((sum, count) => sum + count[key], 0)
if (total('skipped') > 0) console.error('Skipped tests fail the run: every suite can run here.')
console.log(`${total('passed')} passed, ${total('failed')} failed, ${total('skipped')} skipped`)
process.exitCode = total('failed') + total('skipped') === 0 ? 0 : 1
