import { ANTHROPIC_API_KEY, CLAUDE_OAUTH_TOKEN, SecretValue } from '../contracts/secret.ts'
import type { Logger } from '../telemetry/types.ts'
import type { Vault } from './types.ts'

/**
 * Takes the model's credentials from the environment into the vault, for the local user. What is stored already stays: it was
 * put there on purpose, and later.
 */
export async function importCredentials(
  vault: Pick<Vault, 'importOnce'>,
  userId: string,
  given: { apiKey: string | undefined; oauthToken: string | undefined },
  log: Logger,
): Promise<void> {
  const variables = [
    { variable: 'ANTHROPIC_API_KEY', name: ANTHROPIC_API_KEY, value: given.apiKey },
    { variable: 'CLAUDE_CODE_OAUTH_TOKEN', name: CLAUDE_OAUTH_TOKEN, value: given.oauthToken },
  ]
  for (const { variable, name, value } of variables) {
    if (value === undefined) continue
    const valid = SecretValue.safeParse(value.trim())
    if (!valid.success) {
      log.warn(`${variable} is not used: it ${valid.error.issues[0]?.message ?? 'is no credential'}.`)
      continue
    }
    const outcome = await vault.importOnce({ userId, name }, valid.data)
    if (outcome === 'imported') log.info(`${variable} was taken into the vault as "${name}".`)
    if (outcome === 'differs')
      log.warn(
        `${variable} differs from the stored secret "${name}", which is used. To use the new value: vivarium secret set ${name}`,
      )
  }
}
