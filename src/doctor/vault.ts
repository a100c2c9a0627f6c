import { join } from 'node:path'
import type { Config } from '../config/schema.ts'
import { ANTHROPIC_API_KEY, CLAUDE_OAUTH_TOKEN } from '../contracts/secret.ts'
import { inspectVault, type VaultReport } from '../vault/inspect.ts'
import type { Check } from './types.ts'

/** Whether there is a credential for the model, and whether the vault would open. */
export function checkVault({ home, credentials }: Config): Check[] {
  let report: VaultReport
  try {
    report = inspectVault(join(home, 'vivarium.db'), join(home, 'master.key'), credentials)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return [{ name: 'vault', status: 'missing', detail: why, fix: null }]
  }
  return [checkCredential(report, credentials), checkKey(report, join(home, 'master.key'))]
}

function checkCredential({ secrets }: VaultReport, { apiKey, oauthToken }: Config['credentials']): Check {
  const name = 'model credential'
  const stored = secrets.filter((each) => each.name === ANTHROPIC_API_KEY || each.name === CLAUDE_OAUTH_TOKEN)
  if (stored.length > 0) {
    const names = stored.map((each) => (each.shared ? `${each.name} (shared)` : each.name))
    return { name, status: 'ok', detail: `stored: ${names.join(', ')}; it stays on the host`, fix: null }
  }
  const variable =
    (apiKey !== undefined && 'ANTHROPIC_API_KEY') || (oauthToken !== undefined && 'CLAUDE_CODE_OAUTH_TOKEN')
  if (variable !== false)
    return { name, status: 'ok', detail: `${variable} is set: the server takes it into its vault`, fix: null }
  const detail = 'none is stored, and none is set where this command runs: only shell tasks can run'
  return { name, status: 'warning', detail, fix: `vivarium secret set ${ANTHROPIC_API_KEY}` }
}

function checkKey({ secrets, key }: VaultReport, path: string): Check {
  const name = 'vault'
  const holds = `${secrets.length} ${secrets.length === 1 ? 'secret' : 'secrets'}`
  const wayOut = `put back the key that it was encrypted with, or give the secrets up with "vivarium serve --forget-secrets"`
  switch (key) {
    case 'none-needed':
      return { name, status: 'ok', detail: 'no secrets are stored', fix: null }
    case 'opens':
      return { name, status: 'ok', detail: `${holds}, encrypted; the master key is there`, fix: null }
    case 'elsewhere':
      return {
        name,
        status: 'warning',
        detail: `${holds}, encrypted; the master key is given to the server from outside and can't be checked from here`,
        fix: null,
      }
    case 'missing':
      return { name, status: 'missing', detail: `${holds}, but their master key ${path} is gone: ${wayOut}`, fix: null }
    case 'wrong':
      return {
        name,
        status: 'missing',
        detail: `${holds}, which the present master key does not open: ${wayOut}`,
        fix: null,
      }
  }
}
