/**
 * `npm run fuzz`: plays what hostile guests might say to everything of ours that reads it, for a minute in all.
 *
 *     npm run fuzz -- --seconds 3600                      longer
 *     npm run fuzz -- --target tar,lines --seed 7         some targets; other cases
 *     npm run fuzz -- --target tar --replay 7:1234        one case again
 *     npm run fuzz -- --target tar --replay FILE          an input that was kept
 *
 * Inputs that failed are kept in `fuzz/findings`.
 */
import { parseArgs } from 'node:util'
import { fuzz, replayFile, type Result } from '../fuzz/campaign.ts'
import type { Target } from '../fuzz/target.ts'
import { TARGETS, targetNamed } from '../fuzz/targets.ts'
import { buildAssets } from './build-assets.ts'

export const FUZZ_DEFAULTS = { seconds: 60, seed: '1' }

/** Plays the targets one after the other, which share the time; says how each went. Returns how many failed. */
export async function fuzzAll(
  targets: readonly Target[],
  { seconds, seed }: typeof FUZZ_DEFAULTS,
): Promise<{ passed: number; failed: string[] }> {
  const count: { passed: number; failed: string[] } = { passed: 0, failed: [] }
  for (const target of targets) {
    const result = await fuzz(target, { seed, first: 0, seconds: seconds / targets.length })
    report(result, seed)
    if (result.failure === undefined) count.passed += 1
    else count.failed.push(`fuzz: ${target.name}`)
  }
  return count
}

function report({ target, cases, ms, failure }: Result, seed: string): void {
  console.log(`${failure === undefined ? '✓' : '✗'} fuzz ${target}: ${cases} cases in ${Math.round(ms / 1000)} s`)
  if (failure === undefined) return
  const { number, file, reason } = failure
  console.log(reason)
  console.log(`Again: npm run fuzz -- --target ${target} --replay ${number === undefined ? file : `${seed}:${number}`}`)
  console.log(`Its input: ${file}`)
}

async function replay(target: Target, what: string): Promise<boolean> {
  const [, seed, number] = /^([^:/]+):(\d+)$/.exec(what) ?? []
  const result = await (seed === undefined
    ? replayFile(target, what)
    : fuzz(target, { seed, first: Number(number), seconds: 0 }))
  report(result, seed ?? '')
  return result.failure === undefined
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      target: { type: 'string' },
      seconds: { type: 'string', default: String(FUZZ_DEFAULTS.seconds) },
      seed: { type: 'string', default: FUZZ_DEFAULTS.seed },
      replay: { type: 'string' },
    },
  })
  await buildAssets()
  const targets = values.target === undefined ? TARGETS : values.target.split(',').map(targetNamed)
  const [first] = targets
  if (values.replay === undefined) {
    const { failed } = await fuzzAll(targets, { seconds: Number(values.seconds), seed: values.seed })
    if (failed.length > 0) process.exitCode = 1
  } else if (first === undefined || targets.length > 1) throw new Error('Name the one target to replay: --target NAME')
  else if (!(await replay(first, values.replay))) process.exitCode = 1
}
