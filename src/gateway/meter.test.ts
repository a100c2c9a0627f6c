import { expect, test } from 'vitest'
import { Meter } from './meter.ts'
import { PriceTable } from './price-table.ts'

const START = {
  type: 'message_start',
  message: {
    model: 'claude-opus-5-5',
    usage: { input_tokens: 1000, cache_read_input_tokens: 300, cache_creation_input_tokens: 200, output_tokens: 1 },
  },
}
const DELTA = { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'äöü '.repeat(100) } }
const END = { type: 'message_delta', delta: {}, usage: { output_tokens: 42, input_tokens: null } }
const STOP = { type: 'message_stop' }

function sse(...events: { type: string }[]): Buffer {
  return Buffer.from(events.map((event) => `event: ${event.type}\r\ndata: ${JSON.stringify(event)}\r\n\r\n`).join(''))
}

function metered(body: Buffer, chunkBytes: number, contentType = 'text/event-stream; charset=utf-8'): Meter {
  const meter = new Meter(200, contentType, new PriceTable())
  for (let at = 0; at < body.length; at += chunkBytes) meter.push(body.subarray(at, at + chunkBytes))
  meter.end()
  return meter
}

test.each([1, 7, 100_000])('a stream is counted the same however it is cut: %i bytes', (chunkBytes) => {
  expect(metered(sse(START, DELTA, { type: 'ping' }, END, STOP), chunkBytes).usage()).toEqual({
    model: 'claude-opus-5-5',
    inputTokens: 1000,
    outputTokens: 42,
    cacheReadTokens: 300,
    cacheWriteTokens: 200,
    costUsd: expect.closeTo(0.0059, 10),
    complete: true,
    status: 200,
  })
})

test('a stream that was cut off counts what was seen, its output estimated from the text', () => {
  const usage = metered(sse(START, DELTA, DELTA), 50).usage()
  expect(usage).toMatchObject({ inputTokens: 1000, outputTokens: 200, complete: false })
  expect(usage.costUsd).toBeGreaterThan(0)
})

test('a whole answer is counted; half of one is incomplete', () => {
  const body = Buffer.from(JSON.stringify({ ...START.message, content: [{ type: 'text', text: 'x' }] }))
  expect(metered(body, 10, 'application/json').usage()).toMatchObject({ inputTokens: 1000, complete: true })
  expect(metered(body.subarray(0, 50), 10, 'application/json').usage()).toMatchObject({
    model: 'unknown',
    inputTokens: 0,
    complete: false,
  })
})

test('an unknown model has no price but is charged to a budget', () => {
  const meter = metered(sse({ ...START, message: { ...START.message, model: 'claude-next' } } as never, END, STOP), 99)
  expect(meter.usage()).toMatchObject({ model: 'claude-next', costUsd: null })
  expect(meter.chargedUsd()).toBeGreaterThan(0)
})

test('broken events and endless lines are passed over', () => {
  const junk = Buffer.concat([
    Buffer.from('data: {oops\n\ndata: 7\n\ndata: {"type":"message_delta"}\n\ndata: '),
    Buffer.alloc(5 * 1024 * 1024, 0x78),
    Buffer.from('\n\n'),
  ])
  const meter = metered(Buffer.concat([junk, sse(START, END, STOP)]), 64 * 1024)
  expect(meter.usage()).toMatchObject({ inputTokens: 1000, outputTokens: 42, complete: true })
})

test('an error in the middle of a stream is noticed', () => {
  const error = { type: 'error', error: { type: 'overloaded_error', message: 'busy' } }
  expect(metered(sse(START, error), 20).error).toEqual({ type: 'overloaded_error', message: 'busy' })
})
