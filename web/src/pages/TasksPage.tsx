import { useInfiniteQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { useState } from 'react'
import type { TaskStatus } from '../../../src/contracts/task.ts'
import { Button, buttonClass } from '../components/Button.tsx'
import { Empty, ErrorNote } from '../components/Notes.tsx'
import { Page } from '../components/Shell.tsx'
import { TaskRow } from '../components/TaskRow.tsx'
import { useTitle } from '../hooks.ts'
import { tasksQuery } from '../queries.ts'
import { STATUS_LABEL } from '../status.ts'

function Filter({
  status,
  onChange,
}: {
  status: TaskStatus | undefined
  onChange: (status: TaskStatus | undefined) => void
}) {
  const statuses = Object.entries(STATUS_LABEL) as [TaskStatus, string][]
  return (
    <select
      aria-label="Status"
      value={status ?? ''}
      onChange={(event) => onChange(statuses.find(([name]) => name === event.target.value)?.[0])}
      className="input-box h-8 w-auto! bg-panel! py-0! text-[13px]"
    >
      <option value="">All tasks</option>
      {statuses.map(([name, label]) => (
        <option key={name} value={name}>
          {label}
        </option>
      ))}
    </select>
  )
}

function NoTasks({ filtered }: { filtered: boolean }) {
  if (filtered) return <Empty icon="tasks" title="No task has this status" />
  return (
    <Empty icon="tasks" title="No tasks yet">
      <p className="mb-4">Give Claude Code a prompt: it runs in a microVM of its own and brings back its files.</p>
      <Link to="/new" className={buttonClass('primary')}>
        New task
      </Link>
    </Empty>
  )
}

/** All tasks, newest first. */
export function TasksPage() {
  const [status, setStatus] = useState<TaskStatus>()
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery(tasksQuery(status))
  useTitle('Tasks')
  // A task that was added between two pages moves the border between them: the same row can be on both.
  const tasks = [...new Map(data?.pages.flatMap((page) => page.items).map((task) => [task.id, task])).values()]
  return (
    <Page title="Tasks" actions={<Filter status={status} onChange={setStatus} />}>
      <ErrorNote error={error} className="mb-4" />
      {data && tasks.length === 0 && <NoTasks filtered={status !== undefined} />}
      {tasks.length > 0 && (
        <ul className="divide-y divide-line overflow-hidden rounded-lg border border-line bg-panel">
          {tasks.map((task) => (
            <TaskRow key={task.id} task={task} />
          ))}
        </ul>
      )}
      {hasNextPage && (
        <div className="mt-4 flex justify-center">
          <Button onClick={() => void fetchNextPage()} disabled={isFetchingNextPage}>
            {isFetchingNextPage ? 'Loading…' : 'Older tasks'}
          </Button>
        </div>
      )}
    </Page>
  )
}
