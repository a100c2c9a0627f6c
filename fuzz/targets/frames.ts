import assert from 'node:assert/strict'
import { FrameParser } from '../../src/link/frames.ts'
import { ExecExit, MAX_FRAME_BYTES } from '../../src/link/protocol.ts'
import type { ExecOutput } from '../../src/link/types.ts'
import { expectMisbehaviour } from '../expect.ts'
import { cut, mutate } from '../mutate.ts'
import { Random } from '../random.ts'
import { CUT_BYTES, simpleTarget } from '../target.ts'

const EXITS = [
  { code: 0, signal: null, outOfMemory: false },
  { code: null, signal: 'SIGKILL', outOfMemory: true },
].map((exit) => Buffer.from(JSON.stringify(exit)))

function frame(kind: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(5)
  header.writeUInt8(kind)
  header.writeUInt32BE(payload.length, 1)
  return Buffer.concat([header, payload])
}

/** The output of one process, and as a guest that means well sends it in about a third of all cases. */
function spool(random: Random): Buffer {
  const output = random.list(random.below(6), () => {
    const size = random.chance(0.02) ? MAX_FRAME_BYTES + random.below(2) : random.size(2000)
    return frame(random.between(1, 2), Buffer.alloc(size, random.below(256)))
  })
  return Buffer.concat([...output, frame(3, random.pick(EXITS))])
}

/** What the bytes mean, read in the plainest way: pieces up to the exit or the first thing that is wrong. */
function expected(bytes: Buffer): { pieces: ExecOutput[]; isBroken: boolean } {
  const pieces: ExecOutput[] = []
  for (let at = 0; bytes.length - at >= 5;) {
    const [kind, length] = [bytes[at] ?? 0, bytes.readUInt32BE(at + 1)]
    if (length > MAX_FRAME_BYTES) return { pieces, isBroken: true }
    const next = at + 5 + length
    if (next > bytes.length) break
    const data = bytes.subarray(at + 5, next)
    if (kind === 1 || kind === 2) pieces.push({ kind: kind === 1 ? 'stdout' : 'stderr', data, next })
    else {
      const exit = kind === 3 && length <= 1024 ? parseExit(data) : undefined
      if (exit === undefined) return { pieces, isBroken: true }
      return { pieces: [...pieces, { kind: 'exit', exit, next }], isBroken: false }
    }
    at = next
  }
  return { pieces, isBroken: false }
}

function parseExit(data: Buffer): ExecExit | undefined {
  try {
    return ExecExit.safeParse(JSON.parse(data.toString('utf8'))).data
  } catch {
    // No JSON: no exit.
    return undefined
  }
}

/** Output of a process: frames are what they are however the stream is cut, and what is none is misbehaviour. */
export const frames = simpleTarget({
  name: 'frames',
  generate(random) {
    const bytes = spool(random)
    return Buffer.concat([random.bytes(CUT_BYTES), random.chance(0.3) ? bytes : mutate(bytes, random, [spool(random)])])
  },
  async run(input) {
    const bytes = input.subarray(CUT_BYTES)
    const { pieces, isBroken } = expected(bytes)
    const parser = new FrameParser(0)
    const found: ExecOutput[] = []
    let failure: unknown
    try {
      // Nobody reads behind an exit.
      for (const chunk of cut(bytes, new Random(input.toString('hex', 0, CUT_BYTES))))
        if (found.at(-1)?.kind !== 'exit') for (const piece of parser.push(chunk)) found.push(piece)
    } catch (error) {
      failure = error
    }
    if (failure === undefined) assert.ok(!isBroken, 'what is broken was taken')
    else expectMisbehaviour(failure)
    // An exit with something behind it may be refused, as far as it came in one piece.
    const refusedExit = failure !== undefined && !isBroken && pieces.at(-1)?.kind === 'exit'
    assert.deepEqual(found, refusedExit ? pieces.slice(0, -1) : pieces)
    assert.ok(failure === undefined || isBroken || refusedExit, 'what is whole was refused')
  },
})
