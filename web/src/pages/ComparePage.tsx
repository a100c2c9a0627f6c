import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { ApiError } from '../api.ts'
import { Attempt } from '../components/task/Attempt.tsx'
import { buttonClass } from '../components/Button.tsx'
import { Empty, ErrorNote } from '../components/Notes.tsx'
import { excerpt } from '../format.ts'
import { useTitle } from '../hooks.ts'
import { continuationsQuery, taskQuery } from '../queries.ts'
import { NotFound } from './NotFoundPage.tsx'

/** The forks of one task side by side; below each other where there is no room. */
export function ComparePage({ taskId }: { taskId: string }) {
  const original = useQuery(taskQuery(taskId))
  const { data, error } = useQuery(continuationsQuery(taskId))
  const forks = data?.items.filter((task) => task.fork).toReversed() ?? []
  useTitle('Forks')
  if (original.error instanceof ApiError && (original.error.status === 404 || original.error.status === 400))
    return <NotFound what="There is no such task." />
  return (
    <div className="flex h-full flex-col">
      <header className="shrink-0 border-b border-line bg-panel/60 px-3 py-2.5 sm:px-4">
        <h1 className="font-medium">{forks.length === 1 ? '1 fork' : `${forks.length} forks`}</h1>
        <p className="truncate text-xs text-faint">
          of{' '}
          <Link to="/tasks/$taskId" params={{ taskId }} className="text-accent hover:underline">
            <code className="font-mono">{taskId}</code>
          </Link>{' '}
          · <bdi>{original.data ? excerpt(original.data.prompt, 160) : ''}</bdi>
        </p>
      </header>
      <ErrorNote error={error ?? original.error} className="m-4" />
      {data && forks.length === 0 && (
        <Empty icon="branch" title="No forks yet">
          <p className="mb-4">Forks are several attempts at one prompt, each from a copy of where this task ended.</p>
          <Link to="/tasks/$taskId" params={{ taskId }} className={buttonClass('quiet')}>
            To the task
          </Link>
        </Empty>
      )}
      <ul
        data-testid="attempts"
        className="grid min-h-0 flex-1 gap-3 overflow-auto p-3 sm:auto-cols-[minmax(21rem,1fr)] sm:grid-flow-col"
      >
        {forks.map((fork, place) => (
          <Attempt key={fork.id} listed={fork} number={place + 1} />
        ))}
      </ul>
    </div>
  )
}
