import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { TextStream } from './text-stream.ts'

const DECODER = new TextDecoder('utf-8', { ignoreBOM: true })

/** The text of pieces, and how many bytes were pending after each. */
function read(pieces: Buffer[]): string {
  const stream = new TextStream()
  let text = ''
  for (const piece of pieces) {
    text += stream.push(piece)
    expect(stream.pending).toBeLessThanOrEqual(3)
  }
  return text + stream.end()
}

test('text is the same however it is cut into pieces', () => {
  const bytes = fc.string({ unit: 'binary' }).map((text) => Buffer.from(text))
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(5)), (all, sizes) => {
      const pieces: Buffer[] = []
      let at = 0
      for (const size of sizes) pieces.push(all.subarray(at, (at += size)))
      expect(read([...pieces, all.subarray(at)])).toBe(DECODER.decode(all))
    }),
  )
})

test('what is no text never keeps more than three bytes waiting, and loses nothing that is text', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 8 })), (pieces) => {
      const ascii = (text: string) => [...text].filter((char) => char < '\x80').join('')
      expect(ascii(read(pieces.map((piece) => Buffer.from(piece))))).toBe(ascii(DECODER.decode(Buffer.concat(pieces))))
    }),
  )
})

test('only what may still become a character is pending', () => {
  const stream = new TextStream()
  expect([stream.push(Buffer.from('a€').subarray(0, 3)), stream.pending]).toEqual(['a', 2])
  expect([stream.push(Buffer.from('€').subarray(2)), stream.pending]).toEqual(['€', 0])
  expect([stream.push(Buffer.from([0xff])), stream.pending]).toEqual(['', 1])
})
