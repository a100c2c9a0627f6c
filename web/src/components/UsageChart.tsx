import type { UsageGrouping } from '../../../src/contracts/usage.ts'
import { usd } from '../format.ts'
import type { Bar, Chart } from '../usage.ts'

const COLOURS = ['bg-accent', 'bg-words', 'bg-thinking', 'bg-good', 'bg-warn', 'bg-cool', 'bg-bad'] as const

function colour(models: readonly string[], model: string): string {
  return COLOURS[models.indexOf(model)] ?? 'bg-faint'
}

/** What a bar says to those who do not see it, or point at it. */
function inWords({ label, costUsd, parts }: Bar): string {
  const models = parts.map((part) => `${part.model} ${usd(part.costUsd)}`)
  return [`${label}: ${usd(costUsd)}`, ...models].join('\n')
}

function Legend({ models }: { models: readonly string[] }) {
  return (
    <ul className="flex flex-wrap gap-x-4 gap-y-1 text-xs text-soft">
      {models.map((model) => (
        <li key={model} className="flex items-center gap-1.5">
          <span className={`size-2 rounded-full ${colour(models, model)}`} />
          <bdi>{model}</bdi>
        </li>
      ))}
    </ul>
  )
}

function Columns({ chart: { bars, models, highestUsd } }: { chart: Chart }) {
  return (
    <ol className="flex h-40 items-end gap-1 border-b border-line">
      {bars.map((bar) => (
        <li
          key={bar.key}
          title={inWords(bar)}
          data-testid="usage-bar"
          className="flex h-full min-w-0 flex-1 flex-col justify-end"
        >
          {bar.parts.map(({ model, costUsd }) => (
            <span
              key={model}
              aria-hidden
              className={`block first:rounded-t ${colour(models, model)}`}
              style={{ height: `${(100 * costUsd) / (highestUsd || 1)}%` }}
            />
          ))}
          <span className="sr-only">{inWords(bar)}</span>
        </li>
      ))}
    </ol>
  )
}

function Rows({ chart: { bars, models, highestUsd } }: { chart: Chart }) {
  return (
    <ol className="grid gap-1.5">
      {bars.map((bar) => (
        <li key={bar.key} title={inWords(bar)} data-testid="usage-bar" className="flex items-center gap-3 text-xs">
          <bdi className="w-40 shrink-0 truncate font-mono text-soft">{bar.label}</bdi>
          <span aria-hidden className="flex h-3 min-w-0 flex-1 overflow-hidden rounded">
            {bar.parts.map(({ model, costUsd }) => (
              <span
                key={model}
                className={colour(models, model)}
                style={{ width: `${(100 * costUsd) / (highestUsd || 1)}%` }}
              />
            ))}
          </span>
          <span className="w-16 shrink-0 text-right tabular-nums">{usd(bar.costUsd)}</span>
        </li>
      ))}
    </ol>
  )
}

/** Cost by day as columns, by anything else as rows, each stacked by model. */
export function UsageChart({ by, chart }: { by: UsageGrouping; chart: Chart }) {
  const [first, last] = [chart.bars[0], chart.bars.at(-1)]
  return (
    <figure aria-label={`Cost by ${by}`} className="mb-4 grid gap-3 rounded-lg border border-line bg-panel p-4">
      {by === 'day' ? <Columns chart={chart} /> : <Rows chart={chart} />}
      {by === 'day' && (
        <div aria-hidden className="-mt-2 flex justify-between text-2xs text-faint">
          <span>{first?.label}</span>
          <span>up to {usd(chart.highestUsd)} a day</span>
          <span>{last?.label}</span>
        </div>
      )}
      {by !== 'model' && <Legend models={chart.models} />}
    </figure>
  )
}
