import { z } from 'zod'
import { MachineId, TaskId, UserId } from './ids.ts'

/** What a secret is called: a well-known name, or any other that an upstream in the settings asks for. */
export const SecretName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'must be a name of a-z, 0-9, ".", "_" and "-", e.g. "github"')
export type SecretName = z.infer<typeof SecretName>

/** Names that Vivarium itself asks for. */
export const ANTHROPIC_API_KEY = 'anthropic-api-key'
export const CLAUDE_OAUTH_TOKEN = 'claude-oauth-token'
export const GITHUB_TOKEN = 'github'

/** Secrets go into header fields: printable ASCII, so that none can begin a header of its own. */
export const SecretValue = z
  .string()
  .max(16_384, 'must have at most 16,384 characters')
  .regex(/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/, 'must be one line of printable ASCII without spaces around it')

/** A secret as it is listed: never its value. */
export const SecretInfo = z.object({
  name: SecretName,
  /** Whose it is; null is shared by all users. */
  userId: UserId.nullable(),
  /** 1 when first set, one more with each new value. */
  version: z.int().positive(),
  createdAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
  lastUsedAt: z.iso.datetime().nullable(),
})
export type SecretInfo = z.infer<typeof SecretInfo>

export const SecretList = z.object({ items: z.array(SecretInfo) })

/** Whose secret: the caller's own, unless `shared` or `userId` say otherwise, which are the owner's to say. */
export const SecretRequest = z.strictObject({
  value: SecretValue,
  shared: z.boolean().optional(),
  userId: UserId.optional(),
})
export type SecretRequest = z.infer<typeof SecretRequest>

/** Query of `DELETE /secrets/{name}`. */
export const SecretTarget = z.object({
  shared: z.enum(['true', 'false']).optional(),
  userId: UserId.optional(),
})

/** What `POST /secrets/rotate` takes: new data keys, and with `master` a new master key as well. */
export const RotateRequest = z.strictObject({ master: z.boolean().default(false) })
export const RotateResult = z.object({ secrets: z.int().nonnegative(), master: z.boolean() })
export type RotateResult = z.infer<typeof RotateResult>

export const AuditAction = z.enum(['use', 'set', 'import', 'remove', 'rotate', 'rotate-master', 'forget'])
export type AuditAction = z.infer<typeof AuditAction>

/** One line of the audit. */
export const AuditEntry = z.object({
  /** Rises with time; what pages go by. */
  id: z.int().positive(),
  at: z.iso.datetime(),
  action: AuditAction,
  /** The secret's name; `*` where all were meant. */
  name: z.string(),
  /** Whose secret; null is shared. */
  ownerId: UserId.nullable(),
  /** Who did it, or whose machine used it; null is the server itself. */
  userId: UserId.nullable(),
  taskId: TaskId.nullable(),
  machineId: MachineId.nullable(),
  /** What it was used for, e.g. `anthropic`; empty where it was not used. */
  purpose: z.string(),
  /** Uses that this line stands for: more than 1 only where a machine made a great many within a minute. */
  count: z.int().positive(),
})
export type AuditEntry = z.infer<typeof AuditEntry>

/** Query of `GET /secrets/audit`, newest first; `before` is the `id` that the page ends ahead of. */
export const AuditQuery = z.object({
  name: SecretName.optional(),
  before: z.coerce.number().int().positive().optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
})
export type AuditQuery = z.infer<typeof AuditQuery>
export const AuditList = z.object({ items: z.array(AuditEntry) })
