import { PassThrough } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { EgressPort } from './egress-port.ts'

test('a connection waits for the first use; the next use gets a new one, never that of the one before', async () => {
  const port = new EgressPort(async () => {})
  const [early, later, last] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const taken: Record<string, unknown[]> = { first: [], second: [] }
  port.accept(early)
  expect(early.readableFlowing).toBeNull()
  expect(port.connect((socket) => taken['first']?.push(socket))).toBeUndefined()
  await turn()
  expect(taken['first']).toEqual([early])
  const before = port.connect((socket) => taken['second']?.push(socket))
  expect(early.destroyed).toBe(true)
  await turn()
  expect(taken['second']).toEqual([])
  port.accept(later)
  expect(taken).toEqual({ first: [early], second: [later] })

  port.connect(before)
  expect(later.destroyed).toBe(true)
  port.accept(last)
  expect(taken['first']).toEqual([early, last])
})

test('a connection is given away once it was greeted, and only to the use that there is then', async () => {
  const greetings: PromiseWithResolvers<void>[] = []
  const port = new EgressPort(() => {
    const greeting = Promise.withResolvers<void>()
    greetings.push(greeting)
    return greeting.promise
  })
  const [first, second] = [new PassThrough(), new PassThrough()]
  const taken: unknown[] = []
  port.accept(first)
  port.connect((socket) => taken.push(socket))
  await turn()
  expect(taken).toEqual([])
  // The guest has dialled anew meanwhile, for a use that is there already.
  port.accept(second)
  greetings[0]?.resolve()
  await turn()
  expect(taken).toEqual([second])
  expect(greetings).toHaveLength(1)
})
