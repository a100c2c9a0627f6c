import { createHash } from 'node:crypto'
import type { Agent } from '../agents/types.ts'
import { VivariumError } from '../contracts/errors.ts'
import { isFinal, type TaskRequest, type TaskStatus } from '../contracts/task.ts'
import type { Gateway } from '../gateway/types.ts'
import type { Capacity } from '../machines/types.ts'

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
  { agent, gateway, capacity }: { agent: Agent; gateway: Gateway; capacity: Capacity },
): void {
  if (agent.needsModel && gateway.credentialKind(userId) === undefined) {
    const message =
      'There is no credential for the model. Store one with "vivarium secret set anthropic-api-key" (or claude-oauth-token); it counts at once.'
    throw new VivariumError('no_credential', message)
  }
  capacity.refuseTooLarge(request)
  if (request.repo !== undefined && hasPassword(request.repo.url)) {
    const message =
      'The address of a repository must not hold a user name or password: it would be stored, and enter the machine.'
    throw new VivariumError('invalid_request', message, { field: 'repo.url' })
  }
}

/** Refuses a task that is to run after others which are not its user's, or have ended without success: it would never start. */
export function checkPrerequisites(after: readonly string[], statuses: ReadonlyMap<string, TaskStatus>): void {
  for (const id of after) {
    const status = statuses.get(id)
    if (status === undefined) throw new VivariumError('not_found', `There is no task ${id}.`, { field: 'after' })
    if (isFinal(status) && status !== 'succeeded') {
      const message = `The task ${id} has ended as ${status}: a task after it would never start.`
      throw new VivariumError('conflict', message, { field: 'after' })
    }
  }
}

function hasPassword(url: string): boolean {
  const { username, password } = new URL(url)
  return username !== '' || password !== ''
}
