/** Usage rows, split by model, as a chart shows them. Pure functions. */
import type { UsageGrouping, UsageRow } from '../../src/contracts/usage.ts'

/** One bar: a day, task, user or model, and what each model's part of it cost. */
export interface Bar {
  key: string
  label: string
  costUsd: number
  parts: readonly { model: string; costUsd: number }[]
}

export interface Chart {
  bars: readonly Bar[]
  /** The costliest first: that is the order of their colours. */
  models: readonly string[]
  highestUsd: number
}

/** Of days that many, the latest; of anything else the costliest. */
const MAX_BARS = { day: 30, other: 12 } as const

const DAY_MS = 86_400_000

/** Sums rows that stand for one key and one model each. Days are the last ones up to the latest with any usage, those without as gaps. */
export function chartOf(by: UsageGrouping, rows: readonly UsageRow[]): Chart {
  const bars = new Map<string, { label: string; parts: Map<string, number> }>()
  const models = new Map<string, number>()
  for (const { key, name, split = key, costUsd } of rows) {
    const bar = bars.get(key) ?? { label: name ?? key, parts: new Map<string, number>() }
    bars.set(key, bar)
    bar.parts.set(split, (bar.parts.get(split) ?? 0) + costUsd)
    models.set(split, (models.get(split) ?? 0) + costUsd)
  }
  const order = [...models].toSorted(([, a], [, b]) => b - a).map(([model]) => model)
  const all = [...bars].map(([key, { label, parts }]) => barOf(key, label, parts, order))
  const shown = by === 'day' ? days(all) : all.toSorted((a, b) => b.costUsd - a.costUsd).slice(0, MAX_BARS.other)
  return { bars: shown, models: order, highestUsd: Math.max(0, ...shown.map((bar) => bar.costUsd)) }
}

function barOf(key: string, label: string, parts: ReadonlyMap<string, number>, order: readonly string[]): Bar {
  const listed = order.flatMap((model) => {
    const costUsd = parts.get(model)
    return costUsd === undefined ? [] : [{ model, costUsd }]
  })
  return { key, label, costUsd: listed.reduce((sum, part) => sum + part.costUsd, 0), parts: listed }
}

function days(bars: readonly Bar[]): Bar[] {
  if (bars.length === 0) return []
  const known = new Map(bars.map((bar) => [bar.key, bar]))
  const last = Math.max(...bars.map((bar) => Date.parse(bar.key)))
  return Array.from({ length: MAX_BARS.day }, (_, at) => {
    const key = new Date(last - (MAX_BARS.day - 1 - at) * DAY_MS).toISOString().slice(0, 10)
    return known.get(key) ?? { key, label: key, costUsd: 0, parts: [] }
  })
}
