import { createHash } from 'node:crypto'
import type { Agent } from '../agents/types.ts'
import { VivariumError } from '../contracts/errors.ts'
import type { TaskRequest } from '../contracts/task.ts'
import type { Gateway } from '../gateway/types.ts'
import type { TaskSettings } from './settings.ts'

/** SHA-256 of a request in hex: the same for the same request, whatever the order of its fields. */
export function requestHash(request: TaskRequest): string {
  return createHash('sha256').update(canonicalJson(request)).digest('hex')
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}

/** Refuses at once what could only fail later: no credential, a machine larger than the host, a token in an address. */
export function checkRequest(
  userId: string,
  request: TaskRequest,
  { agent, gateway, settings }: { agent: Agent; gateway: Gateway; settings: TaskSettings },
): void {
  if (agent.needsModel && gateway.credentialKind(userId) === undefined) {
    const message =
      'There is no credential for the model. Store one with "vivarium secret set anthropic-api-key" (or claude-oauth-token); it counts at once.'
    throw new VivariumError('no_credential', message)
  }
  if (request.memoryMib > settings.totalMemoryMib) {
    const message = `A machine of ${request.memoryMib} MiB can't run here: all machines together may use ${settings.totalMemoryMib} MiB (machines.totalMemoryMib).`
    throw new VivariumError('machine_too_large', message, { field: 'memoryMib' })
  }
  if (request.repo !== undefined && hasPassword(request.repo.url)) {
    const message =
      'The address of a repository must not hold a user name or password: it would be stored, and enter the machine.'
    throw new VivariumError('invalid_request', message, { field: 'repo.url' })
  }
}

function hasPassword(url: string): boolean {
  const { username, password } = new URL(url)
  return username !== '' || password !== ''
}
