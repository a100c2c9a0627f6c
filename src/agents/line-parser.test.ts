import { expect, test } from 'vitest'
import { isWithinBounds } from './json-bounds.ts'
import { LineParser } from './line-parser.ts'
import { type Line, LineSplitter } from './line-splitter.ts'

test('a long line is parsed in a worker and gives the same events', async () => {
  const line = Buffer.from(
    JSON.stringify({ type: 'assistant', message: { content: [{ type: 'text', text: 'x'.repeat(2 ** 21) }] } }),
  )
  const inline = new LineParser({ inlineBytes: 2 ** 25 })
  const parser = new LineParser()
  expect(await parser.parse(line)).toEqual(await inline.parse(line))
  await parser.close()
})

test('lines that would keep a parser busy for seconds, or fill its heap, are kept as raw', async () => {
  const parser = new LineParser()
  const size = 2 ** 24
  const open = '{"type":"system","subtype":"x","a":'
  const hostile = [
    `${open}${'['.repeat(size)}`,
    `${open}${'{"a":'.repeat(size / 5)}`,
    `${open}[${'{},'.repeat(size / 3)}{}]}`,
    `${open}[${'0,'.repeat(size / 2)}0]}`,
  ]
  for (const line of hostile)
    expect((await parser.parse(Buffer.from(line))).events).toEqual([{ type: 'raw', text: line }])
  await parser.close()
})

test('the largest line within its bounds leaves the worker alive', async () => {
  const parser = new LineParser()
  const parts = Array.from({ length: 99_000 }, (_, n) => `"${n}\\u20ac${'€'.repeat(40)}":{}`).join()
  const line = Buffer.from(`{"type":"system","subtype":"x","pad":"${'\\u20ac'.repeat(2 ** 21)}",${parts}}`)
  expect((await parser.parse(line)).events).toMatchObject([{ type: 'log', message: 'system/x' }])
  await parser.close()
})

test('a line that takes too long is kept as raw, and the next line is read', async () => {
  const line = Buffer.from(`{"type":"system","subtype":"${'y'.repeat(2 ** 21)}"}`)
  const hasty = new LineParser({ deadlineMs: 0 })
  expect((await hasty.parse(line)).events[0]?.type).toBe('raw')
  expect((await hasty.parse(Buffer.from('{"type":"system","subtype":"x"}'))).events[0]?.type).toBe('log')
  await hasty.close()
})

test.each([
  ['{"a":"[[[[[[","b":"\\\\"}', true],
  [`${'['.repeat(200)}${']'.repeat(200)}`, true],
  [`${'['.repeat(201)}`, false],
  [`["${'\\"['.repeat(300)}"]`, true],
  [`["\\\\",${'['.repeat(200)}`, false],
])('brackets count outside of strings only: %s', (json, expected) => {
  expect(isWithinBounds(Buffer.from(json))).toBe(expected)
})

test('a line that is too long is cut at once, and does not disturb the next', () => {
  const splitter = new LineSplitter(false, 10, 4)
  const texts = (lines: Line[]) => lines.map(({ bytes, isCut }) => [bytes.toString(), isCut])
  expect(texts(splitter.push(Buffer.from('12345678901')))).toEqual([['1234', true]])
  expect([splitter.pending, splitter.isCut]).toEqual([0, true])
  expect(texts(splitter.push(Buffer.from('234\nnext\n')))).toEqual([['next', false]])
  expect([splitter.isCut, splitter.end()]).toEqual([false, []])
})

test('a line that nobody waits for any more is cut; the rest of it is left out', () => {
  const splitter = new LineSplitter(false, 100, 4)
  splitter.push(Buffer.from('123456'))
  expect(splitter.pending).toBe(6)
  expect(splitter.cut().map(({ bytes }) => bytes.toString())).toEqual(['1234'])
  const goesOn = new LineSplitter(splitter.isCut, 100, 4)
  expect(goesOn.push(Buffer.from('789\nnext\n')).map(({ bytes }) => bytes.toString())).toEqual(['next'])
})

test('a line of exactly the limit is whole, also in single bytes', () => {
  const splitter = new LineSplitter(false, 10, 4)
  for (const byte of Buffer.from('1234567890')) expect(splitter.push(Buffer.from([byte]))).toEqual([])
  expect(splitter.end().map((line) => line.bytes.toString())).toEqual(['1234567890'])
})
