import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import type { UsageGrouping, UsageRow } from '../../../src/contracts/usage.ts'
import { usageCsvUrl } from '../api.ts'
import { buttonClass } from '../components/Button.tsx'
import { Icon } from '../components/Icon.tsx'
import { Empty, ErrorNote } from '../components/Notes.tsx'
import { Page } from '../components/Shell.tsx'
import { UsageChart } from '../components/UsageChart.tsx'
import { count, usd } from '../format.ts'
import { useTitle } from '../hooks.ts'
import { meQuery, usageQuery } from '../queries.ts'
import { chartOf } from '../usage.ts'

const GROUPINGS: readonly UsageGrouping[] = ['day', 'model', 'task', 'user']
const TOKENS = [
  ['Input', 'inputTokens'],
  ['Output', 'outputTokens'],
  ['Cache read', 'cacheReadTokens'],
  ['Cache write', 'cacheWriteTokens'],
] as const

/** Only the owner sees more than one user. */
function Tabs({ current, isOwner }: { current: UsageGrouping; isOwner: boolean }) {
  return (
    <nav aria-label="Group by" className="flex gap-1 rounded-lg border border-line bg-panel p-1 text-[13px]">
      {GROUPINGS.filter((by) => by !== 'user' || isOwner).map((by) => (
        <Link
          key={by}
          to="/usage"
          search={{ by }}
          className={`rounded px-3 py-0.5 capitalize ${by === current ? 'bg-raised text-fg' : 'text-soft hover:text-fg'}`}
        >
          {by}
        </Link>
      ))}
    </nav>
  )
}

function Key({ by, row }: { by: UsageGrouping; row: UsageRow }) {
  // Machines without a task have usage, too.
  if (by !== 'task' || !row.key.startsWith('t_'))
    return <bdi className="font-mono text-[13px]">{row.name ?? row.key}</bdi>
  return (
    <Link
      to="/tasks/$taskId"
      params={{ taskId: row.key }}
      className="font-mono text-[13px] text-accent hover:underline"
    >
      {row.key}
    </Link>
  )
}

/** The cost of a row, beside a bar that shows its share of the highest. */
function Cost({ row: { costUsd, unpriced }, highest }: { row: UsageRow; highest: number }) {
  return (
    <span className="flex items-center justify-end gap-3">
      <span className="hidden h-1.5 w-24 overflow-hidden rounded-full bg-raised md:block">
        <span
          className="block h-full rounded-full bg-accent/80"
          style={{ width: `${(100 * costUsd) / (highest || 1)}%` }}
        />
      </span>
      <span className="w-16">
        {usd(costUsd)}
        {unpriced > 0 && (
          <span className="text-warn" title={`${unpriced} requests to models without a known price are not included`}>
            {' '}
            + ?
          </span>
        )}
      </span>
    </span>
  )
}

function Table({ by, rows }: { by: UsageGrouping; rows: UsageRow[] }) {
  const highest = Math.max(...rows.map((row) => row.costUsd))
  const sum = (of: (row: UsageRow) => number) => rows.reduce((total, row) => total + of(row), 0)
  const cell = 'px-3 py-2 text-right tabular-nums'
  return (
    <div className="overflow-x-auto rounded-lg border border-line bg-panel">
      <table className="w-full text-[13px]">
        <thead className="border-b border-line text-2xs tracking-wider text-faint uppercase">
          <tr>
            <th className="px-3 py-2 text-left font-semibold">{by}</th>
            <th className={`${cell} font-semibold`}>Requests</th>
            {TOKENS.map(([label]) => (
              <th key={label} className={`${cell} font-semibold`}>
                {label}
              </th>
            ))}
            <th className={`${cell} font-semibold`}>Cost</th>
          </tr>
        </thead>
        <tbody className="divide-y divide-line">
          {rows.map((row) => (
            <tr key={row.key} data-testid="usage-row" className="hover:bg-raised">
              <td className="px-3 py-2 whitespace-nowrap">
                <Key by={by} row={row} />
              </td>
              <td className={cell}>{row.requests}</td>
              {TOKENS.map(([label, field]) => (
                <td key={label} className={`${cell} text-soft`} title={String(row[field])}>
                  {count(row[field])}
                </td>
              ))}
              <td className={cell}>
                <Cost row={row} highest={highest} />
              </td>
            </tr>
          ))}
        </tbody>
        <tfoot className="border-t border-line font-medium">
          <tr>
            <td className="px-3 py-2 text-faint">Total</td>
            <td className={cell}>{sum((row) => row.requests)}</td>
            {TOKENS.map(([label, field]) => (
              <td key={label} className={cell}>
                {count(sum((row) => row[field]))}
              </td>
            ))}
            <td className={cell}>{usd(sum((row) => row.costUsd))}</td>
          </tr>
        </tfoot>
      </table>
    </div>
  )
}

/** Tokens and cost, as counted at the gateway. */
export function UsagePage({ by }: { by: UsageGrouping }) {
  const { data, error } = useQuery(usageQuery(by))
  const { data: split } = useQuery(usageQuery(by, 'model'))
  const { data: me } = useQuery(meQuery)
  useTitle('Usage')
  return (
    <Page
      title="Usage"
      actions={
        <div className="flex flex-wrap items-center gap-2">
          <a href={usageCsvUrl(by)} download className={buttonClass('quiet')}>
            <Icon name="down" />
            CSV
          </a>
          <Tabs current={by} isOwner={me?.isOwner === true} />
        </div>
      }
    >
      <ErrorNote error={error} className="mb-4" />
      {data?.items.length === 0 && (
        <Empty icon="usage" title="Nothing has been used yet">
          Every model request is counted at the gateway, by day, model and task.
        </Empty>
      )}
      {split && split.items.length > 0 && <UsageChart by={by} chart={chartOf(by, split.items)} />}
      {data && data.items.length > 0 && <Table by={by} rows={data.items} />}
    </Page>
  )
}
