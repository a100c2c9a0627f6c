import type { CpuInfo } from 'node:os'
import { expect, test } from 'vitest'
import { idleProcessors } from './idle-processors.ts'

test('the idle share is that of the time since it was last asked, over all processors', () => {
  let times = [
    { user: 10, nice: 0, sys: 10, irq: 0, idle: 80 },
    { user: 10, nice: 0, sys: 10, irq: 0, idle: 80 },
  ]
  const ask = idleProcessors(() => times.map((each): CpuInfo => ({ model: '', speed: 0, times: each })))
  times = [
    { user: 60, nice: 0, sys: 20, irq: 0, idle: 120 },
    { user: 10, nice: 0, sys: 10, irq: 0, idle: 180 },
  ]
  expect(ask()).toBeCloseTo(0.7)
  expect(ask()).toBe(1)
})
