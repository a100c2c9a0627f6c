import { Link } from '@tanstack/react-router'
import type { Task } from '../../../../src/contracts/task.ts'
import { excerpt } from '../../format.ts'
import { isFinal } from '../../status.ts'
import { Icon } from '../Icon.tsx'
import { StatusChip } from '../StatusChip.tsx'
import { Age, Elapsed } from '../Times.tsx'
import { TaskActions } from './TaskActions.tsx'

function Took({ task }: { task: Task }) {
  const from = Date.parse(task.startedAt ?? task.createdAt)
  return <Elapsed from={from} to={task.finishedAt === null ? undefined : Date.parse(task.finishedAt)} />
}

/** The code and the words of why a task did not succeed. */
function Failure({ error }: { error: NonNullable<Task['error']> }) {
  return (
    <div
      data-testid="task-error"
      role="alert"
      className="flex items-start gap-2.5 border-t border-bad/25 bg-bad/8 px-4 py-2 text-[13px] text-bad"
    >
      <Icon name="alert" className="mt-0.5 size-4" />
      <p className="max-h-32 min-w-0 overflow-y-auto guest-text">
        <code className="mr-2 rounded bg-bad/15 px-1.5 py-0.5 font-mono text-xs">{error.code}</code>
        {error.message}
      </p>
    </div>
  )
}

/** What the task is, how it does, and what can be done about it. */
export function TaskHeader({ task }: { task: Task }) {
  return (
    <header className="shrink-0 border-b border-line bg-panel/60">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-2 px-3 py-2.5 sm:px-4">
        <StatusChip status={task.status} />
        <div className="min-w-0 flex-1 basis-24 sm:basis-40">
          <h1 className="truncate font-medium">
            <bdi>{excerpt(task.prompt, 160)}</bdi>
          </h1>
          <p className="truncate text-xs text-faint">
            <code className="font-mono">{task.id}</code> ·{' '}
            {task.agent === 'shell' ? 'shell' : (task.model ?? 'claude-code')} · <Took task={task} /> ·{' '}
            <Age at={task.createdAt} />
            {task.attempts > 1 && ` · attempt ${task.attempts}`}
            {task.queue !== null && <span data-testid="task-queue"> · {task.queue.reason}</span>}
            {task.vmId !== null && !isFinal(task.status) && (
              <>
                {' '}
                ·{' '}
                <Link to="/vms" className="font-mono hover:text-accent">
                  {task.vmId}
                </Link>
              </>
            )}
          </p>
        </div>
        <TaskActions task={task} />
      </div>
      {task.error && <Failure error={task.error} />}
    </header>
  )
}
