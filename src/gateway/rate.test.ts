import { duplexPair } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { Rate } from './rate.ts'
import { Throttled } from './throttled.ts'

test('a rate lets a burst through at once, then so much a second, and forgives what was not used', () => {
  let now = 0
  const rate = new Rate(100, 1, () => now)
  expect([rate.take(60), rate.take(40), rate.take(50)]).toEqual([0, 0, 500])
  now = 10_000
  expect(rate.take(100)).toBe(0)
  expect(rate.tryTake()).toBe(false)
  expect(rate.tryTake()).toBe(false)
  now = 10_010
  expect([rate.tryTake(), rate.tryTake()]).toEqual([true, false])
  expect(new Rate(0, 1).take(1e12)).toBe(0)
})

test('a throttled connection passes everything on, in order and to its end, but not before its time', async () => {
  const [inner, far] = duplexPair()
  const taken: number[] = []
  const rate = new Rate(10_000_000, 0)
  const take = rate.take.bind(rate)
  rate.take = (bytes) => {
    taken.push(bytes)
    return take(bytes)
  }
  const throttled = new Throttled(inner, rate)
  const data = Buffer.from(Array.from({ length: 300_000 }, (_, at) => at % 251))
  far.end(data)
  throttled.end(data)
  const [arrived, left] = await Promise.all([buffer(throttled), buffer(far)])
  expect(arrived.equals(data) && left.equals(data)).toBe(true)
  expect(taken.reduce((sum, bytes) => sum + bytes, 0)).toBe(2 * data.length)
})

test('a throttled connection ends with the one behind it, and the other way round', async () => {
  for (const end of ['inner', 'outer'] as const) {
    const [inner, far] = duplexPair()
    const throttled = new Throttled(inner, new Rate(1, 0))
    throttled.on('error', () => undefined)
    throttled.resume()
    throttled.write(Buffer.alloc(1000))
    far.write(Buffer.alloc(1000))
    const closed = Promise.all([inner, throttled].map((each) => new Promise((resolve) => each.once('close', resolve))))
    ;(end === 'inner' ? inner : throttled).destroy()
    await closed
    expect([inner.destroyed, throttled.destroyed]).toEqual([true, true])
  }
})
