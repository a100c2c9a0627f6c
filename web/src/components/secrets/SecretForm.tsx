import { useMutation, useQueryClient } from '@tanstack/react-query'
import { type SubmitEvent, useState } from 'react'
import { api, ApiError } from '../../api.ts'
import { secretsKey } from '../../queries.ts'
import { Button } from '../Button.tsx'
import { Field } from '../Field.tsx'
import { ErrorNote } from '../Notes.tsx'

const KNOWN = ['anthropic-api-key', 'claude-oauth-token', 'github']

/** Stores a secret, or gives it a new value. The value leaves this page with the request, and is not kept in it. */
export function SecretForm({ isOwner }: { isOwner: boolean }) {
  const [name, setName] = useState('')
  const [value, setValue] = useState('')
  const [shared, setShared] = useState(false)
  const client = useQueryClient()
  const store = useMutation({
    mutationFn: () => api.setSecret(name.trim(), { value: value.trim(), ...(shared && { shared }) }),
    onSuccess: () => {
      setName('')
      setValue('')
      return client.invalidateQueries({ queryKey: secretsKey })
    },
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    if (name.trim() !== '' && value.trim() !== '') store.mutate()
  }
  const problem = (field: string) =>
    store.error instanceof ApiError && store.error.field === field ? store.error.message : undefined
  const isOfField = problem('name') !== undefined || problem('value') !== undefined
  return (
    <form onSubmit={submit} className="rounded-lg border border-line bg-panel p-4">
      <div className="grid gap-3 sm:grid-cols-[1fr_2fr_auto] sm:items-start">
        <Field label="Name" problem={problem('name')}>
          {(control) => (
            <>
              <input
                {...control}
                data-testid="secret-name"
                list="secret-names"
                autoComplete="off"
                spellCheck={false}
                value={name}
                onChange={(event) => setName(event.target.value)}
                className="input-box font-mono"
              />
              <datalist id="secret-names">
                {KNOWN.map((known) => (
                  <option key={known} value={known} />
                ))}
              </datalist>
            </>
          )}
        </Field>
        <Field label="Value" problem={problem('value')} hint="It can be used and replaced, but never read again.">
          {(control) => (
            <input
              {...control}
              data-testid="secret-value"
              type="password"
              autoComplete="new-password"
              spellCheck={false}
              value={value}
              onChange={(event) => setValue(event.target.value)}
              className="input-box font-mono"
            />
          )}
        </Field>
        <Button type="submit" look="primary" data-testid="secret-store" disabled={store.isPending} className="sm:mt-6">
          {store.isPending ? 'Storing…' : 'Store'}
        </Button>
      </div>
      {isOwner && (
        <label className="mt-3 flex items-center gap-2 text-[13px] text-soft">
          <input
            type="checkbox"
            data-testid="secret-shared"
            checked={shared}
            onChange={(event) => setShared(event.target.checked)}
          />
          Shared by all users who have none of that name
        </label>
      )}
      <ErrorNote error={isOfField ? null : store.error} className="mt-3" />
    </form>
  )
}
