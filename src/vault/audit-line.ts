import type { Insertable } from 'kysely'
import type { AuditAction } from '../contracts/secret.ts'
import type { AuditTable } from '../store/tables.ts'
import type { SecretTarget, SecretUse } from './types.ts'

export type AuditLine = Omit<Insertable<AuditTable>, 'id'>

/** Every secret at once, as the subject of a line. */
export const ALL: SecretTarget = { userId: null, name: '*' }

/** A machine of `userId` used a secret. */
export function useLine(secret: SecretTarget, userId: string, use: SecretUse): AuditLine {
  const { machineId, taskId, purpose } = use
  return { ...changeLine('use', secret, userId), machineId, taskId, purpose }
}

/** Somebody changed something; `by` null is the server itself. */
export function changeLine(action: AuditAction, secret: SecretTarget, by: string | null): AuditLine {
  const { userId: ownerId, name } = secret
  const at = new Date().toISOString()
  return { at, action, name, ownerId, userId: by, taskId: null, machineId: null, purpose: '', count: 1 }
}
