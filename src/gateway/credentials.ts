import type { OutgoingHttpHeaders } from 'node:http'
import { ANTHROPIC_API_KEY, CLAUDE_OAUTH_TOKEN } from '../contracts/secret.ts'
import type { Secrets, SecretScope, SecretUse } from '../vault/types.ts'

/** What model requests of one user are signed with. */
export interface Credential {
  kind: 'api-key' | 'oauth'
  secret: string
}

/** Finds the credential of a user. Asked for every request, so that a credential stored meanwhile counts at once. */
export interface CredentialSource {
  /** What a request would be signed with, if anything; is no use of it. */
  kind(userId: string): Credential['kind'] | undefined
  /** For one request, which becomes a line of the audit. */
  use(userId: string, use: Omit<SecretUse, 'purpose'>): Credential | undefined
}

/** Without this beta the API takes no OAuth token. */
const OAUTH_BETA = 'oauth-2025-04-20'

const NAMES: Record<Credential['kind'], string> = { 'api-key': ANTHROPIC_API_KEY, oauth: CLAUDE_OAUTH_TOKEN }

/** One's own before the shared; with both key and token the key wins, as in Claude Code itself. */
const ORDER: { kind: Credential['kind']; scope: SecretScope }[] = [
  { kind: 'api-key', scope: 'own' },
  { kind: 'oauth', scope: 'own' },
  { kind: 'api-key', scope: 'shared' },
  { kind: 'oauth', scope: 'shared' },
]

/** The model's credentials in the vault. */
export function vaultCredentials(secrets: Secrets): CredentialSource {
  // `scope` says "own" where there is one, which is then found first: a shared one behind it need not be seen.
  const find = (userId: string) => ORDER.find(({ kind, scope }) => secrets.scope(userId, NAMES[kind]) === scope)
  return {
    kind: (userId) => find(userId)?.kind,
    use(userId, use) {
      const found = find(userId)
      if (found === undefined) return undefined
      const secret = secrets.use(userId, NAMES[found.kind], { purpose: 'anthropic', ...use }, found.scope)
      return secret === undefined ? undefined : { kind: found.kind, secret }
    },
  }
}

/** The headers of a request with the credential in them. */
export function signed(headers: OutgoingHttpHeaders, credential: Credential): OutgoingHttpHeaders {
  if (credential.kind === 'api-key') return { ...headers, 'x-api-key': credential.secret }
  const betas = [headers['anthropic-beta'] ?? []]
    .flat()
    .flatMap((value) => String(value).split(','))
    .map((beta) => beta.trim())
    .filter((beta) => beta !== '' && beta !== OAUTH_BETA)
  return {
    ...headers,
    authorization: `Bearer ${credential.secret}`,
    'anthropic-beta': [...betas, OAUTH_BETA].join(','),
  }
}
