import type { OutgoingHttpHeaders } from 'node:http'

/** What model requests of one user are signed with. */
export interface Credential {
  kind: 'api-key' | 'oauth'
  secret: string
}

/** Finds the credential of a user. Called for every request, so that a credential stored meanwhile counts at once. */
export type CredentialSource = (userId: string) => Credential | undefined

/** Without this beta the API takes no OAuth token. */
const OAUTH_BETA = 'oauth-2025-04-20'

/** One credential for every user, from the host's environment. With both the key wins, as in Claude Code itself. */
export function sharedCredential(given: {
  apiKey: string | undefined
  oauthToken: string | undefined
}): CredentialSource {
  const credential = choose(given)
  return () => credential
}

function choose({ apiKey, oauthToken }: { apiKey: string | undefined; oauthToken: string | undefined }) {
  if (apiKey !== undefined) return { kind: 'api-key', secret: apiKey } as const
  if (oauthToken !== undefined) return { kind: 'oauth', secret: oauthToken } as const
  return undefined
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
