import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { type KeyboardEvent, type SubmitEvent, useState } from 'react'
import type { Task } from '../../../../src/contracts/task.ts'
import { api } from '../../api.ts'
import { followUpOf } from '../../draft.ts'
import { continuationsQuery } from '../../queries.ts'
import { Button } from '../Button.tsx'
import { Icon } from '../Icon.tsx'
import { KeepSelect } from '../KeepSelect.tsx'
import { ErrorNote } from '../Notes.tsx'

const MAX_FORKS = 20

/** Sends the prompt, as one task or as several attempts, and goes to what comes of it. */
function useSubmit(task: Task) {
  const client = useQueryClient()
  const navigate = useNavigate()
  const refresh = () => client.invalidateQueries({ queryKey: continuationsQuery(task.id).queryKey })
  const followUp = useMutation({
    mutationFn: ({ prompt, keep }: { prompt: string; keep: string }) => api.submit(followUpOf(task, prompt, keep)),
    onSuccess: async ({ id }) => {
      await Promise.all([refresh(), navigate({ to: '/tasks/$taskId', params: { taskId: id } })])
    },
  })
  const fork = useMutation({
    mutationFn: (request: { prompt: string; count: number }) => api.fork(task.id, request),
    onSuccess: async () => {
      await Promise.all([refresh(), navigate({ to: '/tasks/$taskId/compare', params: { taskId: task.id } })])
    },
  })
  return { followUp, fork }
}

function Count({ count, onChange }: { count: string; onChange: (count: string) => void }) {
  return (
    <input
      data-testid="fork-count"
      aria-label="Number of attempts"
      type="number"
      min="1"
      max={MAX_FORKS}
      required
      value={count}
      onChange={(event) => onChange(event.target.value)}
      className="input-box h-8 w-15! py-0! text-[13px] tabular-nums"
    />
  )
}

/** Under a finished task: a prompt that goes on from it, or several attempts at one, each from a copy. */
export function FollowUp({ task }: { task: Task }) {
  const [prompt, setPrompt] = useState('')
  const [keep, setKeep] = useState('')
  const [count, setCount] = useState('3')
  const { followUp, fork } = useSubmit(task)
  const isBusy = followUp.isPending || fork.isPending
  const isEmpty = prompt.trim() === ''
  const submit = () => {
    if (!isEmpty && !isBusy) followUp.mutate({ prompt, keep })
  }
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault()
    submit()
  }
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) submit()
  }
  return (
    <form onSubmit={onSubmit} className="group shrink-0 border-t border-line bg-panel/60 px-3 py-2.5 sm:px-4">
      <textarea
        data-testid="follow-up-prompt"
        aria-label="Follow-up prompt"
        rows={1}
        value={prompt}
        placeholder={
          task.agent === 'shell'
            ? 'Another command in the same workspace'
            : 'Follow up: same workspace, same conversation'
        }
        onChange={(event) => setPrompt(event.target.value)}
        onKeyDown={onKeyDown}
        className="input-box field-sizing-content max-h-48 min-h-[34px] resize-none bg-base!"
      />
      <ErrorNote error={followUp.error ?? fork.error} className="mt-2" />
      {/* On a small screen the stream needs the room until something is written. */}
      <div
        className={`mt-2 flex-wrap items-center gap-2 group-focus-within:flex sm:flex ${isEmpty ? 'hidden' : 'flex'}`}
      >
        <Button type="submit" look="primary" data-testid="follow-up-submit" disabled={isBusy || isEmpty}>
          <Icon name="reply" />
          Follow up
        </Button>
        <label className="flex items-center gap-1.5 text-xs text-faint">
          Keep machine
          <KeepSelect control={{}} value={keep} onChange={setKeep} className="h-8 w-auto! py-0! text-[13px]" />
        </label>
        <span className="ml-auto flex items-center gap-1.5">
          <Count count={count} onChange={setCount} />
          <Button
            data-testid="fork-submit"
            title="Several attempts at this prompt, each with a copy of workspace and conversation"
            disabled={isBusy || isEmpty || Number(count) < 1}
            onClick={() => fork.mutate({ prompt, count: Number(count) })}
          >
            <Icon name="branch" />
            Fork
          </Button>
        </span>
      </div>
    </form>
  )
}
