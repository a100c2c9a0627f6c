import { useQuery } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import type { ReactNode } from 'react'
import { PatchCounter } from '../../../../src/contracts/patch-stat.ts'
import type { Task } from '../../../../src/contracts/task.ts'
import { usd } from '../../format.ts'
import { patchQuery, taskQuery } from '../../queries.ts'
import { isFinal } from '../../status.ts'
import { CutText } from '../CutText.tsx'
import { Phases } from '../Phases.tsx'
import { StatusChip } from '../StatusChip.tsx'
import { Elapsed } from '../Times.tsx'
import { Patch } from './PatchView.tsx'

function Figure({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="min-w-0">
      <dt className="text-2xs tracking-wider text-faint uppercase">{name}</dt>
      <dd className="truncate font-medium tabular-nums">{children}</dd>
    </div>
  )
}

/** Files, and lines added and removed, where there is a patch to count them in. */
function Changes({ task }: { task: Task }) {
  const { data } = useQuery({ ...patchQuery(task.id), enabled: task.hasPatch })
  if (data === undefined) return <Figure name="Files">{task.files.length}</Figure>
  const counter = new PatchCounter()
  counter.write(data)
  const { files, added, removed } = counter.stat
  return (
    <>
      <Figure name="Files">{files}</Figure>
      <Figure name="Lines">
        <span className="text-good">+{added}</span> <span className="text-bad">−{removed}</span>
      </Figure>
    </>
  )
}

function Numbers({ task }: { task: Task }) {
  const end = task.finishedAt === null ? undefined : Date.parse(task.finishedAt)
  return (
    <dl className="grid grid-cols-5 gap-x-3 text-[13px]">
      <Figure name="Time">
        {task.startedAt === null ? '–' : <Elapsed from={Date.parse(task.startedAt)} to={end} />}
      </Figure>
      <Figure name="Cost">{usd(task.costUsd)}</Figure>
      <Figure name="Turns">{task.turns}</Figure>
      <Changes task={task} />
    </dl>
  )
}

/** One attempt: how it went, what it said, what it changed. `listed` is shown until all of it is there. */
export function Attempt({ listed, number }: { listed: Task; number: number }) {
  const { data = listed } = useQuery(taskQuery(listed.id))
  // The list is asked for more often while something runs.
  const task = isFinal(data.status) ? data : { ...data, status: listed.status, costUsd: listed.costUsd }
  return (
    <li
      data-testid="attempt"
      data-task-id={task.id}
      className="min-w-0 self-start rounded-lg border border-line bg-panel"
    >
      <header className="grid gap-2.5 border-b border-line p-3">
        <div className="flex items-center gap-2">
          <span className="text-faint tabular-nums">{number}</span>
          <Link
            to="/tasks/$taskId"
            params={{ taskId: task.id }}
            className="min-w-0 flex-1 truncate font-mono text-xs text-accent hover:underline"
          >
            {task.id}
          </Link>
          <StatusChip status={task.status} />
        </div>
        <CutText text={task.prompt} limit={200} className="text-[13px] font-medium" />
        <Numbers task={task} />
        {task.phases.length > 0 && <Phases done={task.phases} />}
      </header>
      {task.error !== null && (
        <p className="border-b border-line p-3 text-[13px] text-bad guest-text">{task.error.message}</p>
      )}
      {task.result !== null && (
        <CutText text={task.result} limit={600} className="border-b border-line p-3 text-[13px] text-soft" />
      )}
      {task.hasPatch ? (
        <div className="max-h-[70dvh] overflow-auto pb-2">
          <Patch taskId={task.id} />
        </div>
      ) : (
        <p className="p-3 text-xs text-faint">
          {isFinal(task.status)
            ? 'It changed nothing that a patch can show.'
            : 'Its changes come when it has finished.'}
        </p>
      )}
    </li>
  )
}
