/**
 * Plays the cases of one target, in a process of its own: one that crashes or hangs must not take the fuzzer with it. Started by
 * `campaign.ts`, which watches the number of the case that is written to the file PROGRESS.
 *
 *     node --expose-gc fuzz/player.ts TARGET PROGRESS SEED FIRST SECONDS     cases FIRST, FIRST + 1, … for so long
 *     node --expose-gc fuzz/player.ts TARGET PROGRESS FILE                   the input in a file
 */
import { openSync, readFileSync, writeSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { Growth } from './growth.ts'
import { Random } from './random.ts'
import type { Harness, Target } from './target.ts'
import { targetNamed } from './targets.ts'

const GROWTH_EVERY_MS = 1500

const [name = '', progressFile = '', seedOrFile = '', first, seconds] = process.argv.slice(2)
const target = targetNamed(name)
const progress = openSync(progressFile, 'r+')
await using harness = await target.open()
if (seconds === undefined) await harness.run(readFileSync(seedOrFile))
else await playCases(target, harness, { seed: seedOrFile, first: Number(first), seconds: Number(seconds) })

async function playCases(
  target: Target,
  harness: Harness,
  { seed, first, seconds }: { seed: string; first: number; seconds: number },
): Promise<void> {
  const growth = new Growth()
  const until = performance.now() + seconds * 1000
  let measuredAt = performance.now()
  // At least one, so that a single case can be played again.
  for (let number = first; number === first || performance.now() < until; number += 1) {
    writeSync(progress, String(number).padStart(12), 0)
    await harness.run(target.generate(new Random(seed, target.name, number)))
    // What is left to happen after a case happens before the next.
    await turn()
    if (performance.now() - measuredAt < GROWTH_EVERY_MS) continue
    await growth.check()
    measuredAt = performance.now()
  }
}
