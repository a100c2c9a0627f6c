import { useMutation, useQueryClient } from '@tanstack/react-query'
import { Link, useNavigate } from '@tanstack/react-router'
import { type KeyboardEvent, type SubmitEvent, useState } from 'react'
import { api, ApiError } from '../api.ts'
import { requestOf, type TaskDraft } from '../draft.ts'
import { type ChosenFile, readAll } from '../files.ts'
import { taskQuery } from '../queries.ts'
import { AgentChoice } from './AgentChoice.tsx'
import { Button } from './Button.tsx'
import { Field } from './Field.tsx'
import { FileDrop } from './FileDrop.tsx'
import { Icon } from './Icon.tsx'
import { ErrorNote } from './Notes.tsx'
import { TaskSettings } from './TaskSettings.tsx'

/** The fields that show a refusal themselves, so that it is not said twice. */
const SHOWN =
  /^(prompt|model|memoryMib|vcpus|timeoutSeconds|maxTurns|maxCostUsd|priority|repo|network|template|keepVmSeconds)(\.|$)/

/** Says that the task will not begin anew, and lets it. */
function GoesOn({ draft, onStop }: { draft: TaskDraft; onStop: () => void }) {
  return (
    <p className="flex items-center gap-2 text-[13px] text-soft">
      <Icon name={draft.fork ? 'branch' : 'reply'} className="size-4 text-accent" />
      {draft.fork ? 'Branches off from' : 'Goes on from'}
      <Link
        to="/tasks/$taskId"
        params={{ taskId: draft.continues }}
        className="font-mono text-xs text-accent hover:underline"
      >
        {draft.continues}
      </Link>
      <button type="button" onClick={onStop} className="rounded text-xs text-faint hover:text-fg hover:underline">
        begin anew instead
      </button>
    </p>
  )
}

/** Takes a prompt and its settings, submits the task and goes to it. */
export function TaskForm({ initial }: { initial: TaskDraft }) {
  const [draft, setDraft] = useState(initial)
  const [files, setFiles] = useState<ChosenFile[]>([])
  const navigate = useNavigate()
  const client = useQueryClient()
  const submit = useMutation({
    mutationFn: async () => api.submit(requestOf(draft, await readAll(files))),
    onSuccess: (task) => {
      client.setQueryData(taskQuery(task.id).queryKey, task)
      return navigate({ to: '/tasks/$taskId', params: { taskId: task.id } })
    },
  })
  const refused = submit.error instanceof ApiError && SHOWN.test(submit.error.field ?? '') ? submit.error : undefined
  const problemAt = (field: string) =>
    refused?.field === field || refused?.field?.startsWith(`${field}.`) ? refused.message : undefined
  const change = (part: Partial<TaskDraft>) => setDraft((before) => ({ ...before, ...part }))

  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault()
    submit.mutate()
  }
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !submit.isPending) submit.mutate()
  }
  const isShell = draft.agent === 'shell'
  return (
    <form onSubmit={onSubmit} onKeyDown={onKeyDown} className="grid items-start gap-5 lg:grid-cols-[1fr_22rem]">
      <div className="grid gap-4">
        <AgentChoice agent={draft.agent} onChange={(agent) => change({ agent })} />
        <Field label={isShell ? 'Command' : 'Prompt'} problem={problemAt('prompt')}>
          {(control) => (
            <textarea
              {...control}
              data-testid="new-task-prompt"
              autoFocus
              required
              rows={12}
              value={draft.prompt}
              spellCheck={!isShell}
              placeholder={isShell ? 'npm ci && npm test' : 'What should Claude Code do in its machine?'}
              onChange={(event) => change({ prompt: event.target.value })}
              className={`input-box min-h-32 resize-y bg-panel! leading-relaxed ${isShell ? 'font-mono text-[13px]' : ''}`}
            />
          )}
        </Field>
        {draft.continues !== '' && <GoesOn draft={draft} onStop={() => change({ continues: '', fork: false })} />}
        <FileDrop files={files} onChange={setFiles} />
        <ErrorNote error={refused ? undefined : submit.error} />
        <div className="flex items-center gap-3">
          <Button
            type="submit"
            look="primary"
            data-testid="submit-task"
            disabled={submit.isPending}
            className="h-9! px-5!"
          >
            {submit.isPending ? 'Submitting…' : 'Run task'}
          </Button>
          <span className="text-xs text-faint max-sm:hidden">
            <kbd className="font-sans">Ctrl</kbd> + <kbd className="font-sans">Enter</kbd>
          </span>
        </div>
      </div>
      <TaskSettings draft={draft} change={change} problemAt={problemAt} />
    </form>
  )
}
