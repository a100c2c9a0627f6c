import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import type { MachineInfo } from '../../../../src/contracts/machine.ts'
import type { Task } from '../../../../src/contracts/task.ts'
import { excerpt } from '../../format.ts'
import { continuationsQuery, machinesQuery } from '../../queries.ts'
import { isFinal } from '../../status.ts'
import { Icon } from '../Icon.tsx'
import { Panel } from '../Panel.tsx'
import { StatusChip } from '../StatusChip.tsx'
import { Until } from '../Times.tsx'

function CompareLink({ taskId, label }: { taskId: string; label: string }) {
  return (
    <Link
      to="/tasks/$taskId/compare"
      params={{ taskId }}
      data-testid="compare-link"
      className="flex items-center gap-1 rounded text-xs text-accent hover:underline"
    >
      <Icon name="compare" className="size-3.5" />
      {label}
    </Link>
  )
}

/** What this task goes on from. */
function Origin({ taskId, isFork }: { taskId: string; isFork: boolean }) {
  return (
    <p data-testid="task-origin" className="flex items-center gap-2 px-3 py-2 text-[13px] text-soft">
      <Icon name={isFork ? 'branch' : 'reply'} className="size-3.5 text-faint" />
      {isFork ? 'Fork of' : 'Goes on from'}
      <Link to="/tasks/$taskId" params={{ taskId }} className="font-mono text-xs text-accent hover:underline">
        {taskId}
      </Link>
    </p>
  )
}

function Continuation({ task }: { task: Task }) {
  return (
    <li data-testid="continuation">
      <Link
        to="/tasks/$taskId"
        params={{ taskId: task.id }}
        title={task.fork ? `Fork ${task.id}` : `Follow-up ${task.id}`}
        className="flex items-center gap-2 px-3 py-1 text-[13px] -outline-offset-2 hover:bg-raised"
      >
        <Icon name={task.fork ? 'branch' : 'reply'} className="size-3.5 text-faint" />
        <bdi className="min-w-0 flex-1 truncate">{excerpt(task.prompt, 80)}</bdi>
        <StatusChip status={task.status} />
      </Link>
    </li>
  )
}

/** The machine of a finished task, where it was kept. */
function useKeptMachine(task: Task): MachineInfo | undefined {
  const enabled = isFinal(task.status) && task.vmId !== null
  const { data } = useQuery({ ...machinesQuery, enabled, refetchInterval: 10_000 })
  return enabled ? data?.items.find((machine) => machine.taskId === task.id && machine.keepUntil !== null) : undefined
}

function Kept({ machine: { id, keepUntil } }: { machine: MachineInfo }) {
  return (
    <p data-testid="kept-machine" className="flex items-center gap-2 px-3 py-2 text-[13px] text-soft">
      <Icon name="machine" className="size-3.5 text-faint" />
      <Link to="/vms" className="font-mono text-xs text-accent hover:underline">
        {id}
      </Link>
      {keepUntil !== null && (
        <span>
          kept for <Until at={keepUntil} />
        </span>
      )}
    </p>
  )
}

/** Where a task comes from, what goes on from it, and the machine that was kept for that. */
export function RelatedPanel({ task }: { task: Task }) {
  const { data } = useQuery(continuationsQuery(task.id))
  const followers = data?.items.toReversed() ?? []
  const forks = followers.filter((follower) => follower.fork).length
  const kept = useKeptMachine(task)
  if (task.continues === null && followers.length === 0 && !kept) return null
  return (
    <Panel
      title="Conversation"
      aside={
        forks > 0 ? (
          <CompareLink taskId={task.id} label={forks === 1 ? 'look at the fork' : `compare ${forks} forks`} />
        ) : (
          task.fork && task.continues !== null && <CompareLink taskId={task.continues} label="compare" />
        )
      }
    >
      {task.continues !== null && <Origin taskId={task.continues} isFork={task.fork} />}
      {kept && <Kept machine={kept} />}
      {followers.length > 0 && (
        <ul className="max-h-64 overflow-y-auto border-t border-line py-1 first:border-t-0">
          {followers.map((follower) => (
            <Continuation key={follower.id} task={follower} />
          ))}
        </ul>
      )}
    </Panel>
  )
}
