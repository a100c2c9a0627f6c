import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { EgressPort } from './egress-port.ts'

test('a connection waits unread for the first use; the next use gets a new one, never that of the one before', () => {
  const port = new EgressPort()
  const [early, later, last] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const taken: Record<string, unknown[]> = { first: [], second: [] }
  port.accept(early)
  expect(early.readableFlowing).toBeNull()
  expect(port.connect((socket) => taken['first']?.push(socket))).toBeUndefined()
  expect(taken['first']).toEqual([early])
  const before = port.connect((socket) => taken['second']?.push(socket))
  expect(early.destroyed).toBe(true)
  expect(taken['second']).toEqual([])
  port.accept(later)
  expect(taken).toEqual({ first: [early], second: [later] })

  port.connect(before)
  expect(later.destroyed).toBe(true)
  port.accept(last)
  expect(taken['first']).toEqual([early, last])
})
