import { expect, test } from 'vitest'
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

test('a hostile long line neither blocks the event loop nor fails the run, and the next line is read', async () => {
  const parser = new LineParser({ inlineBytes: 100, deadlineMs: 500 })
  const hostile = `{"type":"x","a":${'['.repeat(2 ** 23)}`
  let turns = 0
  const timer = setInterval(() => (turns += 1), 10)
  const { events } = await parser.parse(Buffer.from(hostile))
  clearInterval(timer)
  expect(turns).toBeGreaterThan(3)
  expect(events).toEqual([{ type: 'raw', text: hostile }])
  const next = Buffer.from(`{"type":"system","subtype":"${'y'.repeat(200)}"}`)
  const patient = new LineParser({ inlineBytes: 100 })
  expect((await patient.parse(next)).events[0]?.type).toBe('log')
  await parser.close()
  await patient.close()
})

test('a line that breaks the heap limit of the worker is kept as raw', async () => {
  const parser = new LineParser({ inlineBytes: 100, heapMib: 32 })
  const hostile = `{"type":"x","a":[${'{},'.repeat(2 ** 21)}{}]}`
  expect((await parser.parse(Buffer.from(hostile))).events).toEqual([{ type: 'raw', text: hostile }])
  await parser.close()
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
