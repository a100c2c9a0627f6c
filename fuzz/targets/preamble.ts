import assert from 'node:assert/strict'
import { preambleLine, type PreambleLine, PreambleScanner } from '../../src/link/scanner.ts'
import { cut, mutate } from '../mutate.ts'
import { Random } from '../random.ts'
import { CUT_BYTES, simpleTarget } from '../target.ts'

const VERBS = ['hello', 'echo', 'go', 'ready'] as const

function line(random: Random): Buffer {
  const nonce = random.bytes(16).toString('hex')
  return Buffer.from(preambleLine(random.pick(VERBS), nonce))
}

/** Lines among what an old session left. */
function stream(random: Random): Buffer {
  const parts = random.list(random.below(8), () =>
    random.chance(0.5)
      ? line(random)
      : random.pick([random.bytes(random.size(300)), Buffer.alloc(random.size(300), '\n')]),
  )
  return Buffer.concat(parts)
}

function scan(chunks: Buffer[]): { lines: PreambleLine[]; rest: string; discarded: number } {
  const scanner = new PreambleScanner()
  const lines: PreambleLine[] = []
  for (const chunk of chunks) {
    scanner.push(chunk)
    for (let found = scanner.next(); found !== undefined; found = scanner.next()) lines.push(found)
    assert.ok(scanner.rest().length < 128, 'more is held than one unfinished line')
  }
  return { lines, rest: scanner.rest().toString('hex'), discarded: scanner.discarded }
}

/** The start of a session: lines are found, and the rest is counted, however the stream is cut. */
export const preamble = simpleTarget({
  name: 'preamble',
  generate(random) {
    const bytes = stream(random)
    return Buffer.concat([random.bytes(CUT_BYTES), random.chance(0.3) ? bytes : mutate(bytes, random, [line(random)])])
  },
  async run(input) {
    const bytes = input.subarray(CUT_BYTES)
    const cutUp = scan(cut(bytes, new Random(input.toString('hex', 0, CUT_BYTES))))
    assert.deepEqual(cutUp, scan([bytes]))
    const counted = cutUp.lines.reduce((sum, { verb, nonce }) => sum + preambleLine(verb, nonce).length, 0)
    assert.equal(counted + cutUp.discarded + cutUp.rest.length / 2, bytes.length)
  },
})
