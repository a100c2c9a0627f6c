import type { ReactNode } from 'react'
import type { Task } from '../../../../src/contracts/task.ts'
import type { Facts } from '../../facts.ts'
import { count, duration, mebibytes, usd } from '../../format.ts'
import { isFinal } from '../../status.ts'
import { Facts as FactList, Panel } from '../Panel.tsx'
import { EgressPanel } from './EgressPanel.tsx'
import { RelatedPanel } from './RelatedPanel.tsx'
import { StartPanel } from './StartPanel.tsx'

function requests(number: number): string {
  return `${number} ${number === 1 ? 'request' : 'requests'}`
}

/** While a task runs, its events know more than its record; in the end the record is the count. */
function CostPanel({ task, facts }: { task: Task; facts: Facts }) {
  const isLive = !isFinal(task.status) && facts.usage.requests > 0
  const usage = isLive ? facts.usage : task.usage
  const costUsd = isLive ? facts.usage.costUsd : task.costUsd
  const limit = task.maxCostUsd
  if (task.agent === 'shell' && facts.usage.requests === 0) return null
  return (
    <Panel
      title="Cost"
      aside={facts.usage.requests > 0 && <span className="text-xs text-faint">{requests(facts.usage.requests)}</span>}
    >
      <p className="flex items-baseline gap-2 px-3 pt-2.5">
        <span data-testid="task-cost" className="text-2xl font-semibold tracking-tight tabular-nums">
          {usd(costUsd)}
        </span>
        {limit !== null && <span className="text-xs text-faint">of {usd(limit)}</span>}
      </p>
      {limit !== null && (
        <div className="mx-3 mt-1.5 h-1 overflow-hidden rounded-full bg-raised">
          <div className="h-full bg-accent" style={{ width: `${Math.min(100, (100 * costUsd) / limit)}%` }} />
        </div>
      )}
      <FactList
        rows={[
          ['Input', count(usage.inputTokens)],
          ['Output', count(usage.outputTokens)],
          ['Cache read', count(usage.cacheReadTokens)],
          ['Cache write', count(usage.cacheWriteTokens)],
        ]}
      />
      {!isLive && facts.reportedCostUsd !== undefined && usd(facts.reportedCostUsd) !== usd(costUsd) && (
        <p data-testid="reported-cost" className="px-3 pb-2.5 text-xs text-faint">
          Claude Code itself reports {usd(facts.reportedCostUsd)}.
        </p>
      )}
      {facts.usage.unpriced > 0 && (
        <p className="px-3 pb-2.5 text-xs text-warn">
          {requests(facts.usage.unpriced)} to a model without a known price not included.
        </p>
      )}
    </Panel>
  )
}

function LimitsPanel({ task }: { task: Task }) {
  const rows: [string, ReactNode][] = [
    ['Machine', `${mebibytes(task.memoryMib)} · ${task.vcpus} vCPU`],
    ['Time-out', duration(task.timeoutSeconds * 1000).replace('.0', '')],
  ]
  if (task.turns > 0 || task.maxTurns !== null)
    rows.push(['Turns', task.maxTurns === null ? task.turns : `${task.turns} of ${task.maxTurns}`])
  if (task.priority !== 'normal') rows.push(['Priority', task.priority])
  if (task.template !== null) rows.push(['Template', task.template])
  if (task.exitCode !== null) rows.push(['Exit code', task.exitCode])
  if (task.repo)
    rows.push(['Repository', <bdi key="repo">{task.repo.url + (task.repo.ref ? `#${task.repo.ref}` : '')}</bdi>])
  if (task.network && task.network.allow.length > 0) rows.push(['Allowed', task.network.allow.join(', ')])
  for (const [name, value] of Object.entries(task.metadata)) rows.push([name, <bdi key={name}>{value}</bdi>])
  return (
    <Panel title="Task">
      <FactList rows={rows} />
    </Panel>
  )
}

/** What is known about a task as a whole. */
export function InfoPanels({ task, facts }: { task: Task; facts: Facts }) {
  return (
    <>
      <RelatedPanel task={task} />
      <CostPanel task={task} facts={facts} />
      <StartPanel task={task} facts={facts} />
      <EgressPanel facts={facts} />
      <LimitsPanel task={task} />
    </>
  )
}
