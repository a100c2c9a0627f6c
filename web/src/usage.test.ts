import { expect, test } from 'vitest'
import { chartOf } from './usage.ts'

const row = (key: string, split: string, costUsd: number, name?: string) => ({
  key,
  split,
  costUsd,
  ...(name && { name }),
  requests: 1,
  incomplete: 0,
  unpriced: 0,
  inputTokens: 0,
  outputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
})

test('days stand in their order, with gaps, each stacked by model in one order', () => {
  const rows = [row('2026-11-22', 'opus', 1), row('2026-11-22', 'haiku', 2), row('2026-11-20', 'opus', 5)]
  const { bars, ...rest } = chartOf('day', rows)
  expect([bars.length, bars[0]?.key]).toEqual([30, '2026-10-24'])
  expect(rest).toEqual({ models: ['opus', 'haiku'], highestUsd: 5 })
  expect(bars.slice(-3)).toEqual([
    { key: '2026-11-20', label: '2026-11-20', costUsd: 5, parts: [{ model: 'opus', costUsd: 5 }] },
    { key: '2026-11-21', label: '2026-11-21', costUsd: 0, parts: [] },
    {
      key: '2026-11-22',
      label: '2026-11-22',
      costUsd: 3,
      parts: [
        { model: 'opus', costUsd: 1 },
        { model: 'haiku', costUsd: 2 },
      ],
    },
  ])
})

test('only the latest days and the costliest others are shown', () => {
  const longAgo = [row('2026-11-22', 'opus', 1), row('2020-01-01', 'opus', 9)]
  const { bars, highestUsd } = chartOf('day', longAgo)
  expect([bars.length, bars[0]?.key, highestUsd]).toEqual([30, '2026-10-24', 1])
  const users = Array.from({ length: 40 }, (_, at) => row(`u_${at}`, 'opus', at, `user ${at}`))
  const top = chartOf('user', users).bars
  expect([top.length, top[0]?.label, top.at(-1)?.label]).toEqual([12, 'user 39', 'user 28'])
  expect(chartOf('day', []).bars).toEqual([])
})
