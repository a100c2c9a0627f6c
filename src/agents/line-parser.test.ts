import { expect, test } from 'vitest'
import { isWithinBounds } from './json-bounds.ts'
import { LineParser } from './line-parser.ts'
import { LineSplitter } from './line-splitter.ts'

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

test('a line that is too long is cut, counted, and does not disturb the next', () => {
  const splitter = new LineSplitter(10, 4)
  expect(splitter.push(Buffer.from('12345678901'))).toEqual([])
  const [cut, next] = splitter.push(Buffer.from('234\nnext\n'))
  expect([cut?.bytes.toString(), cut?.dropped]).toEqual(['1234', 10])
  expect([next?.bytes.toString(), next?.dropped]).toEqual(['next', 0])
  expect(splitter.end()).toEqual([])
})

test('a line of exactly the limit is whole, also in single bytes', () => {
  const splitter = new LineSplitter(10, 4)
  for (const byte of Buffer.from('1234567890')) expect(splitter.push(Buffer.from([byte]))).toEqual([])
  expect(splitter.end().map((line) => line.bytes.toString())).toEqual(['1234567890'])
})
