import type { Task } from '../../../../src/contracts/task.ts'
import { isFinal } from '../../status.ts'
import type { StreamState } from '../../stream.ts'

const WAITS: Partial<Record<Task['status'], string>> = {
  queued: 'Waiting for a place on this host',
  starting: 'A machine is starting',
  waiting: 'Waiting for a usage limit to be over',
  collecting: 'Bringing back the files',
}

/** What comes next, while there is nothing newer to show. */
export function Tail({ task, state, isEmpty }: { task: Task; state: StreamState; isEmpty: boolean }) {
  if (isFinal(task.status) || state.name === 'ended') return <div className="h-3" />
  const text = task.queue?.reason ?? WAITS[task.status] ?? (isEmpty ? 'Waiting for the first words' : undefined)
  if (text === undefined) return <div className="h-3" />
  const until = task.status === 'waiting' && task.waitingUntil !== null ? task.waitingUntil : undefined
  return (
    <p className="flex items-center gap-2 px-4 py-2 text-xs text-faint sm:pl-22">
      <span className="size-1.5 animate-pulse rounded-full bg-accent" />
      {text}
      {until !== undefined && `, until ${new Date(until).toLocaleTimeString('en-GB')}`}…
    </p>
  )
}
