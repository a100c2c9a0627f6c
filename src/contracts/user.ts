import { z } from 'zod'
import { KeyId, UserId } from './ids.ts'

export const UserName = z.string().regex(/^[a-z][a-z0-9._-]{0,62}$/, 'must be a lower-case name like "ada"')

export const User = z.object({ id: UserId, name: UserName, createdAt: z.iso.datetime() })
export type User = z.infer<typeof User>

/** An API key as it is listed: never the key itself, only its first characters. */
export const ApiKey = z.object({
  id: KeyId,
  userId: UserId,
  label: z.string(),
  prefix: z.string(),
  createdAt: z.iso.datetime(),
  lastUsedAt: z.iso.datetime().nullable(),
})
export type ApiKey = z.infer<typeof ApiKey>

/** Returned once, when a key is made. */
export const NewApiKey = ApiKey.extend({ key: z.string() })
export type NewApiKey = z.infer<typeof NewApiKey>

export const UserRequest = z.strictObject({ name: UserName })
export const KeyRequest = z.strictObject({
  label: z.string().min(1).max(100).default('key'),
  userId: UserId.optional(),
})
