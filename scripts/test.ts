/**
 * `npm test`: sets the host up, then checks, unit tests, a minute of fuzzing, and the tests that boot machines. Ends on one plain line,
 * `N passed, N failed, N skipped`, and fails when anything failed or was skipped: every suite runs on every supported host.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { TARGETS } from '../fuzz/targets.ts'
import { CHECKS } from './check.ts'
import { FUZZ_DEFAULTS, fuzzAll } from './fuzz.ts'
import { setUp } from './set-up.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

interface Count {
  passed: number
  /** What failed, each by its name: it is said again at the end, where one looks. */
  failed: string[]
  skipped: number
}

const Report = z.object({
  numPassedTests: z.int(),
  numPendingTests: z.int(),
  numTodoTests: z.int(),
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      assertionResults: z.array(z.object({ fullName: z.string(), status: z.string() })),
    }),
  ),
})

function runs(argv: readonly string[]): boolean {
  const [command = '', ...args] = argv
  return spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0
}

function check(): Count {
  const count: Count = { passed: 0, failed: [], skipped: 0 }
  for (const [name, argv] of Object.entries(CHECKS)) {
    const ok = runs(argv)
    console.log(`${ok ? '✓' : '✗'} ${name}`)
    if (ok) count.passed += 1
    else count.failed.push(`check: ${name}`)
  }
  return count
}

/** The tests of a report that failed, and the files that broke before any of their tests did. */
function failuresOf({ testResults }: z.infer<typeof Report>): string[] {
  return testResults.flatMap(({ name, status, assertionResults }) => {
    const file = relative(ROOT, name)
    const failed = assertionResults.filter((test) => test.status === 'failed')
    if (failed.length === 0 && status === 'failed') return [`${file}: the file itself`]
    return failed.map(({ fullName }) => `${file}: ${fullName}`)
  })
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
    const failed = failuresOf(report)
    if (!ok && failed.length === 0) failed.push(`${project} tests: an error outside of every test, printed above`)
    return { passed: report.numPassedTests, failed, skipped: report.numPendingTests + report.numTodoTests }
  } catch (error) {
    return { passed: 0, failed: [`${project} tests: no report (${String(error)})`], skipped: 0 }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

await setUp({ forTests: true })
const checked = check()
const unit = suite('unit')
const fuzzed = { ...(await fuzzAll(TARGETS, FUZZ_DEFAULTS)), skipped: 0 }
const counts = [checked, unit, fuzzed, suite('vm')]
const passed = counts.reduce((sum, count) => sum + count.passed, 0)
const failed = counts.flatMap((count) => count.failed)
const skipped = counts.reduce((sum, count) => sum + count.skipped, 0)
for (const name of failed) console.error(`✗ ${name}`)
if (skipped > 0) console.error('Skipped tests fail the run: every suite can run here.')
console.log(`${passed} passed, ${failed.length} failed, ${skipped} skipped`)
process.exitCode = failed.length + skipped === 0 ? 0 : 1
