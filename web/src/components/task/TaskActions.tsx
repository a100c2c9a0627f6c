import { useMutation, useQueryClient } from '@tanstack/react-query'
import { Link, useNavigate } from '@tanstack/react-router'
import type { Task } from '../../../../src/contracts/task.ts'
import { api } from '../../api.ts'
import { taskQuery } from '../../queries.ts'
import { isFinal } from '../../status.ts'
import { Button, buttonClass, ConfirmButton } from '../Button.tsx'
import { Icon } from '../Icon.tsx'
import { ErrorNote } from '../Notes.tsx'

function Cancel({ task }: { task: Task }) {
  const client = useQueryClient()
  const cancel = useMutation({
    mutationFn: () => api.cancel(task.id),
    onSettled: () => client.invalidateQueries({ queryKey: taskQuery(task.id).queryKey }),
  })
  return (
    <>
      <ErrorNote error={cancel.error} />
      <Button data-testid="cancel-task" disabled={cancel.isPending || cancel.isSuccess} onClick={() => cancel.mutate()}>
        <Icon name="stop" className="size-3.5" />
        {cancel.isPending || cancel.isSuccess ? 'Cancelling…' : 'Cancel'}
      </Button>
    </>
  )
}

function Delete({ task }: { task: Task }) {
  const client = useQueryClient()
  const navigate = useNavigate()
  const remove = useMutation({
    mutationFn: () => api.remove(task.id),
    onSuccess: async () => {
      await navigate({ to: '/' })
      client.removeQueries({ queryKey: taskQuery(task.id).queryKey })
      await client.invalidateQueries({ queryKey: ['tasks'] })
    },
  })
  return (
    <>
      <ErrorNote error={remove.error} />
      <ConfirmButton
        data-testid="delete-task"
        question="Delete with its files?"
        disabled={remove.isPending}
        onConfirm={() => remove.mutate()}
      >
        <Icon name="trash" />
        <span className="max-sm:sr-only">Delete</span>
      </ConfirmButton>
    </>
  )
}

/** Stops a running task; repeats or deletes a finished one. */
export function TaskActions({ task }: { task: Task }) {
  if (!isFinal(task.status)) return <Cancel task={task} />
  return (
    <div className="flex flex-wrap items-center gap-2">
      <Link to="/new" search={{ from: task.id }} className={buttonClass('quiet')}>
        <Icon name="again" className="size-3.5" />
        <span className="max-sm:sr-only">Again</span>
      </Link>
      <Delete task={task} />
    </div>
  )
}
