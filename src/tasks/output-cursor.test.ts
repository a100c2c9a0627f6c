import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ExecOutput } from '../link/types.ts'
import { BEGINNING, OutputCursor, type OutputPosition } from './output-cursor.ts'

type Piece = Extract<ExecOutput, { data: Buffer }>

const HEADER = 5

/** Lines of each stream that are complete, in the order in which they became so; what is not is pending. */
class Lines {
  readonly lines: string[] = []
  #rest = { stdout: '', stderr: '' }

  get pending() {
    return { stdout: this.#rest.stdout.length, stderr: this.#rest.stderr.length }
  }

  push(kind: Piece['kind'], data: Buffer): void {
    const parts = (this.#rest[kind] + data.toString('latin1')).split('\n')
    this.#rest[kind] = parts.pop() ?? ''
    this.lines.push(...parts.map((line) => `${kind} ${line}`))
  }
}

const pieces = fc
  .array(
    fc.record({
      kind: fc.constantFrom('stdout' as const, 'stderr' as const),
      text: fc.stringMatching(/^[ab\n]{1,5}$/),
    }),
    {
      maxLength: 40,
    },
  )
  .map((list) => {
    let next = 0
    return list.map(({ kind, text }): Piece => ({
      kind,
      data: Buffer.from(text),
      next: (next += HEADER + text.length),
    }))
  })

/** Reads from a position to the end, or until `stop` pieces were taken. */
function read(all: Piece[], position: OutputPosition, stop: number) {
  const cursor = new OutputCursor(position)
  const lines = new Lines()
  let reached = position
  const rest = all.filter(({ next }) => next > position.from)
  for (const piece of rest.slice(0, stop)) {
    lines.push(piece.kind, cursor.take(piece))
    reached = cursor.settle(piece, lines.pending)
  }
  return { lines: lines.lines, position: reached, read: Math.min(stop, rest.length) }
}

test('whoever goes on at a position reads each line exactly once, however often reading is broken off', () => {
  fc.assert(
    fc.property(pieces, fc.array(fc.integer({ min: 1, max: 10 }), { maxLength: 10 }), (all, stops) => {
      const found: string[] = []
      let position = BEGINNING
      for (const stop of [...stops, all.length]) {
        const part = read(all, position, stop)
        found.push(...part.lines)
        position = part.position
        expect([0, ...all.map(({ next }) => next)]).toContain(position.from)
      }
      const whole = read(all, BEGINNING, all.length)
      // Both streams tell their own lines in order; how they mix is settled anew by each reader.
      for (const kind of ['stdout', 'stderr'])
        expect(found.filter((line) => line.startsWith(kind))).toEqual(
          whole.lines.filter((line) => line.startsWith(kind)),
        )
    }),
  )
})

test('a guest keeps no more than the frames that hold what is pending', () => {
  const cursor = new OutputCursor(BEGINNING)
  const nothing = { stdout: 0, stderr: 0 }
  cursor.settle({ kind: 'stdout', data: Buffer.from('one\nhal'), next: 12 }, { stdout: 3, stderr: 0 })
  expect(cursor.lag).toBe(12)
  cursor.settle({ kind: 'stdout', data: Buffer.from('f\nx'), next: 20 }, { stdout: 1, stderr: 0 })
  expect(cursor.lag).toBe(8)
  cursor.settle({ kind: 'stdout', data: Buffer.from('\n'), next: 26 }, nothing)
  expect(cursor.lag).toBe(0)
})
