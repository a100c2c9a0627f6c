import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { api } from '../api.ts'
import { Button, ConfirmButton } from '../components/Button.tsx'
import { Empty, ErrorNote } from '../components/Notes.tsx'
import { Panel } from '../components/Panel.tsx'
import { AuditTable } from '../components/secrets/AuditTable.tsx'
import { SecretForm } from '../components/secrets/SecretForm.tsx'
import { SecretTable } from '../components/secrets/SecretTable.tsx'
import { Page } from '../components/Shell.tsx'
import { useTitle } from '../hooks.ts'
import { meQuery, secretAuditQuery, secretsKey, secretsQuery } from '../queries.ts'

/** Encrypts everything anew; for the owner. */
function RotateButtons() {
  const client = useQueryClient()
  const rotate = useMutation({
    mutationFn: (master: boolean) => api.rotateSecrets(master),
    onSettled: () => client.invalidateQueries({ queryKey: secretsKey }),
  })
  return (
    <div className="flex flex-wrap items-center gap-2">
      <ErrorNote error={rotate.error} />
      <Button disabled={rotate.isPending} onClick={() => rotate.mutate(false)}>
        New data keys
      </Button>
      <ConfirmButton question="Replace it?" disabled={rotate.isPending} onConfirm={() => rotate.mutate(true)}>
        New master key
      </ConfirmButton>
    </div>
  )
}

/** Credentials that machines use through the gateway: stored, replaced and removed here, never shown. */
export function SecretsPage() {
  const { data: me } = useQuery(meQuery)
  const { data, error } = useQuery(secretsQuery)
  const { data: audit } = useQuery(secretAuditQuery)
  useTitle('Secrets')
  if (!me) return null
  return (
    <Page title="Secrets" actions={me.isOwner && <RotateButtons />}>
      <div className="grid gap-4">
        <SecretForm isOwner={me.isOwner} />
        <ErrorNote error={error} />
        {data?.items.length === 0 && (
          <Empty icon="key" title="Nothing is stored yet">
            Machines use the model with <code>anthropic-api-key</code> or <code>claude-oauth-token</code>, and GitHub
            with <code>github</code>. The credential itself never enters a machine.
          </Empty>
        )}
        {data && data.items.length > 0 && <SecretTable secrets={data.items} viewer={me} />}
        {audit && audit.items.length > 0 && (
          <Panel title="Uses and changes">
            <AuditTable lines={audit.items} viewer={me} />
          </Panel>
        )}
      </div>
    </Page>
  )
}
