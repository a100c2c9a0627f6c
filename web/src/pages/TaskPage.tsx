import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { ApiError } from '../api.ts'
import { Button } from '../components/Button.tsx'
import { ErrorNote } from '../components/Notes.tsx'
import { StreamBar } from '../components/stream/StreamBar.tsx'
import { StreamView } from '../components/stream/StreamView.tsx'
import { FilesPanels } from '../components/task/FilesPanels.tsx'
import { FollowUp } from '../components/task/FollowUp.tsx'
import { InfoPanels } from '../components/task/InfoPanels.tsx'
import { Prompt } from '../components/task/Prompt.tsx'
import { Tail } from '../components/task/Tail.tsx'
import { TaskHeader } from '../components/task/TaskHeader.tsx'
import { excerpt } from '../format.ts'
import { useTaskStream, useTitle } from '../hooks.ts'
import { taskQuery } from '../queries.ts'
import { isFinal } from '../status.ts'
import { NotFound } from './NotFoundPage.tsx'

const TABS = ['stream', 'files', 'details'] as const
type Tab = (typeof TABS)[number]

/** On a small screen one part of the page is shown at a time. */
function Tabs({ tab, onChange, files }: { tab: Tab; onChange: (tab: Tab) => void; files: number }) {
  return (
    <div className="flex shrink-0 gap-1 border-b border-line px-2 py-1 lg:hidden">
      {TABS.map((name) => (
        <Button
          key={name}
          look="bare"
          aria-pressed={tab === name}
          onClick={() => onChange(name)}
          className={`h-7! flex-1 capitalize ${tab === name ? 'bg-raised text-fg!' : ''}`}
        >
          {name}
          {name === 'files' && files > 0 && <span className="text-accent">{files}</span>}
        </Button>
      ))}
    </div>
  )
}

/** One task: its stream as it happens, and what is known about it as a whole. */
export function TaskPage({ taskId }: { taskId: string }) {
  const { data: task, error } = useQuery(taskQuery(taskId))
  const { timeline, facts, state, retry } = useTaskStream(taskId)
  const [tab, setTab] = useState<Tab>('stream')
  const [details, setDetails] = useState(false)
  useTitle(task ? excerpt(task.prompt, 60) : 'Task')

  // What is no task id at all is refused as such.
  if (error instanceof ApiError && (error.status === 404 || error.status === 400))
    return <NotFound what="There is no such task." />
  if (!task) return <ErrorNote error={error} className="m-6" />
  const side = (name: Tab) => `${tab === name ? '' : 'hidden lg:grid'} grid gap-3`
  return (
    <div className="flex h-full flex-col">
      <TaskHeader task={task} />
      <Tabs tab={tab} onChange={setTab} files={task.files.length} />
      <div className="grid min-h-0 flex-1 lg:grid-cols-[minmax(0,1fr)_21rem]">
        <section aria-label="Stream" className={`min-h-0 flex-col ${tab === 'stream' ? 'flex' : 'hidden lg:flex'}`}>
          <StreamView
            timeline={timeline}
            details={details}
            printsLines={task.agent !== 'shell'}
            head={<Prompt task={task} />}
            tail={<Tail task={task} state={state} isEmpty={timeline.length === 0} />}
          />
          <StreamBar state={state} retry={retry} lastSeq={timeline.lastSeq} details={details} onDetails={setDetails} />
          {isFinal(task.status) && <FollowUp task={task} />}
        </section>
        <aside
          aria-label="About this task"
          className={`min-h-0 content-start gap-3 overflow-y-auto p-3 lg:grid lg:border-l lg:border-line ${tab === 'stream' ? 'hidden' : 'grid'}`}
        >
          <div className={side('details')}>
            <InfoPanels task={task} facts={facts} />
          </div>
          <div className={`${side('files')} lg:order-first`}>
            <FilesPanels task={task} />
          </div>
        </aside>
      </div>
    </div>
  )
}
