import { useMutation, useQueryClient } from '@tanstack/react-query'
import type { SecretInfo } from '../../../../src/contracts/secret.ts'
import { api } from '../../api.ts'
import { age } from '../../format.ts'
import { useNow } from '../../hooks.ts'
import { secretsKey } from '../../queries.ts'
import { ConfirmButton } from '../Button.tsx'
import { ErrorNote } from '../Notes.tsx'

interface Viewer {
  id: string
  isOwner: boolean
}

/** Whose a secret is, in the words of who looks at it. */
export function ownerLabel(userId: string | null, viewer: Viewer): string {
  if (userId === null) return 'shared'
  return userId === viewer.id ? 'you' : userId
}

function RemoveButton({ secret, viewer }: { secret: SecretInfo; viewer: Viewer }) {
  const client = useQueryClient()
  const remove = useMutation({
    mutationFn: () => api.removeSecret(secret, viewer.id),
    onSettled: () => client.invalidateQueries({ queryKey: secretsKey }),
  })
  return (
    <span className="flex flex-wrap items-center justify-end gap-2">
      <ErrorNote error={remove.error} />
      <ConfirmButton
        look="bare"
        question="Remove it?"
        aria-label={`Remove ${secret.name}`}
        disabled={remove.isPending}
        onConfirm={() => remove.mutate()}
      >
        Remove
      </ConfirmButton>
    </span>
  )
}

/** The secrets that the viewer may know of, without their values. */
export function SecretTable({ secrets, viewer }: { secrets: SecretInfo[]; viewer: Viewer }) {
  const now = useNow(10_000)
  const ago = (at: string) => age(now - Date.parse(at))
  return (
    <div className="overflow-x-auto rounded-lg border border-line bg-panel">
      <table className="w-full text-left text-[13px]">
        <thead className="border-b border-line text-2xs tracking-wider text-faint uppercase">
          <tr>
            {['Name', 'Of', 'Set', 'Last used', ''].map((title) => (
              <th key={title} className="px-3 py-2 font-semibold">
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody className="divide-y divide-line">
          {secrets.map((secret) => (
            <tr key={`${secret.userId}/${secret.name}`} data-testid="secret-row" className="hover:bg-raised">
              <td className="px-3 py-2 font-mono">{secret.name}</td>
              <td className="px-3 py-2 text-soft">{ownerLabel(secret.userId, viewer)}</td>
              <td className="px-3 py-2 text-soft" title={secret.updatedAt}>
                {ago(secret.updatedAt)}
              </td>
              <td className="px-3 py-2 text-soft" title={secret.lastUsedAt ?? undefined}>
                {secret.lastUsedAt === null ? 'never' : ago(secret.lastUsedAt)}
              </td>
              <td className="px-3 py-1">
                {(viewer.isOwner || secret.userId === viewer.id) && <RemoveButton secret={secret} viewer={viewer} />}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
