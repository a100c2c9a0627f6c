import { expect, test } from 'vitest'
import type { Logger } from '../telemetry/types.ts'
import { ClockKeeper } from './clock-keeper.ts'
import type { Machine } from './types.ts'

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT }

test('when the clock jumps, either way, every running guest is told the time; when it only runs, none', async () => {
  const greeted: string[] = []
  const machine = (id: string, hello: () => Promise<void>) =>
    ({ id, timeScale: 1, link: { hello } }) as unknown as Machine
  const machines = [
    machine('m_silent', () => Promise.reject(new Error('silent'))),
    machine('m_well', async () => void greeted.push('m_well')),
  ]
  const reading = { wallMs: 1_000_000, steadyMs: 0 }
  const pass = (wall: number, steady: number) => {
    reading.wallMs += wall
    reading.steadyMs += steady
  }
  using keeper = new ClockKeeper({ machines: () => machines, log: SILENT, read: () => ({ ...reading }) })
  pass(5100, 5000)
  await keeper.look()
  expect(greeted).toEqual([])
  pass(3 * 3_600_000, 5000)
  await keeper.look()
  expect(greeted).toHaveLength(1)
  pass(-2 * 3_600_000, 5000)
  await keeper.look()
  expect(greeted).toHaveLength(2)
  pass(5000, 5000)
  await keeper.look()
  expect(greeted).toHaveLength(2)
})
