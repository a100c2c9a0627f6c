import { Link } from '@tanstack/react-router'
import { memo } from 'react'
import type { Task } from '../../../src/contracts/task.ts'
import { excerpt, usd } from '../format.ts'
import { isFinal } from '../status.ts'
import { StatusChip } from './StatusChip.tsx'
import { Age, Elapsed } from './Times.tsx'

function Took({ task }: { task: Task }) {
  if (task.startedAt === null) return <span className="text-faint">–</span>
  const end = task.finishedAt === null ? undefined : Date.parse(task.finishedAt)
  return <Elapsed from={Date.parse(task.startedAt)} to={end} />
}

/** The second line: what the task ended with, or with what it runs. */
function Detail({ task }: { task: Task }) {
  const agent = task.agent === 'shell' ? 'shell' : (task.model ?? 'claude-code')
  return (
    <>
      <span className="text-soft">{agent}</span>
      {task.queue !== null && ` · ${task.queue.reason}`}
      {task.continues !== null && (task.fork ? ' · fork' : ' · follow-up')}
      {task.repo && <span className="guest-text"> · {excerpt(task.repo.url.replace(/^https?:\/\//, ''), 60)}</span>}
      {task.error ? (
        <span className="text-bad/90 guest-text"> · {excerpt(task.error.message, 140)}</span>
      ) : (
        isFinal(task.status) &&
        task.result !== null && <span className="guest-text"> · {excerpt(task.result, 140)}</span>
      )}
    </>
  )
}

/** One task in the list; the whole row leads to it. */
export const TaskRow = memo(function TaskRow({ task }: { task: Task }) {
  return (
    <li data-testid="task-row" data-task-id={task.id}>
      <Link
        to="/tasks/$taskId"
        params={{ taskId: task.id }}
        className="grid grid-cols-[1fr_auto] items-center gap-x-4 gap-y-1 px-3 py-2.5 -outline-offset-2 transition-colors hover:bg-raised sm:grid-cols-[7.5rem_1fr_auto] sm:px-4"
      >
        <span className="max-sm:order-2 max-sm:justify-self-end">
          <StatusChip status={task.status} />
        </span>
        <span className="min-w-0 max-sm:order-1">
          <span className="block truncate font-medium guest-text whitespace-nowrap!">{excerpt(task.prompt, 200)}</span>
          <span className="block truncate text-xs text-faint *:whitespace-nowrap!">
            <Detail task={task} />
          </span>
        </span>
        <span className="grid grid-cols-[auto_auto_auto] items-center gap-x-4 text-right text-xs text-soft tabular-nums max-sm:order-3 max-sm:col-span-2 max-sm:justify-self-start sm:grid-cols-[4rem_4.5rem_4.5rem]">
          <span>{task.agent === 'shell' ? <span className="text-faint">–</span> : usd(task.costUsd)}</span>
          <Took task={task} />
          <span className="text-faint">
            <Age at={task.createdAt} />
          </span>
        </span>
      </Link>
    </li>
  )
})
