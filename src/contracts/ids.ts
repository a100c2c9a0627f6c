import { randomBytes } from 'node:crypto'
import { z } from 'zod'

/** Crockford's base32 in lower case: no letter that a person mistakes for another. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'

/** Ids stay short because a machine's id is part of unix socket paths, which end at 107 bytes. */
const LENGTH = 12

function idSchema(prefix: string) {
  return z
    .string()
    .regex(new RegExp(`^${prefix}_[0-9a-hjkmnp-tv-z]{${LENGTH}}$`), `must look like ${prefix}_0123456789ab`)
}

export const TaskId = idSchema('t')
export const MachineId = idSchema('vm')
export const UserId = idSchema('u')
export const KeyId = idSchema('k')
export const UploadId = idSchema('w')
export const ModelRequestId = idSchema('mr')

/** 60 random bits after the prefix, e.g. `t_4k9d2m7q1xz0`. `x` is for execs, which have no schema of their own. */
export function newId(prefix: 't' | 'vm' | 'u' | 'k' | 'w' | 'mr' | 'x'): string {
  const bytes = randomBytes(LENGTH)
  return `${prefix}_${Array.from(bytes, (byte) => ALPHABET[byte & 31]).join('')}`
}
