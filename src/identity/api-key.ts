import { createHash, randomBytes } from 'node:crypto'

/** Crockford's base32 in lower case: no letter that a person mistakes for another. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const LENGTH = 32

const SHAPE = new RegExp(`^vv_[${ALPHABET}]{${LENGTH}}$`)

/** How much of a key is shown in lists: enough to tell one's keys apart, and 130 secret bits remain. */
const PREFIX_LENGTH = 'vv_'.length + 6

/** A new API key, 160 random bits: `vv_` and 32 letters. */
export function newApiKey(): string {
  return `vv_${Array.from(randomBytes(LENGTH), (byte) => ALPHABET[byte & 31]).join('')}`
}

/** Whether a presented text can be a key at all. */
export function isApiKey(text: string): boolean {
  return SHAPE.test(text)
}

/** The characters of a key that lists show. */
export function keyPrefix(key: string): string {
  return key.slice(0, PREFIX_LENGTH)
}

/**
 * What is stored of a key. Also makes looking it up safe to time: how far a hash agrees with a stored one says nothing
 * about the key, since nobody can steer the hash of what they present.
 */
export function hashApiKey(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}
