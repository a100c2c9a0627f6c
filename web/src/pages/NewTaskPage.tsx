import { useQuery } from '@tanstack/react-query'
import { TaskForm } from '../components/TaskForm.tsx'
import { ErrorNote } from '../components/Notes.tsx'
import { Page } from '../components/Shell.tsx'
import { draftOf, EMPTY_DRAFT } from '../draft.ts'
import { useTitle } from '../hooks.ts'
import { taskQuery } from '../queries.ts'

/** The form for a new task; with `from`, filled in as that task was. */
export function NewTaskPage({ from }: { from: string | undefined }) {
  const earlier = useQuery({ ...taskQuery(from ?? ''), enabled: from !== undefined, refetchInterval: false })
  useTitle('New task')
  const isReady = from === undefined || earlier.data !== undefined || earlier.isError
  return (
    <Page title="New task">
      <ErrorNote error={earlier.error} className="mb-4" />
      {isReady && <TaskForm initial={earlier.data ? draftOf(earlier.data) : EMPTY_DRAFT} />}
    </Page>
  )
}
