import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

const FORMAT = 'v1'
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** A fresh key for AES-256. */
export function newKey(): Buffer {
  return randomBytes(KEY_BYTES)
}

/** Which secret and which value of it a ciphertext belongs to: it opens nowhere else. */
export interface Place {
  /** Null is shared. */
  userId: string | null
  name: string
  version: number
}

/** A secret at rest: its value under a data key of its own, the data key under the master key. */
export interface Sealed {
  dataKey: string
  value: string
}

/** Encrypts a value under a new data key, and that under the master key. */
export function sealSecret(masterKey: Buffer, place: Place, value: string): Sealed {
  const dataKey = newKey()
  const plaintext = Buffer.from(value)
  try {
    return {
      dataKey: seal(masterKey, dataKey, bound('data key', place)),
      value: seal(dataKey, plaintext, bound('value', place)),
    }
  } finally {
    dataKey.fill(0)
    plaintext.fill(0)
  }
}

/** The value, or undefined where key, place or either ciphertext is not what it was sealed with. */
export function openSecret(masterKey: Buffer, place: Place, sealed: Sealed): string | undefined {
  const dataKey = unseal(masterKey, sealed.dataKey, bound('data key', place))
  if (dataKey === undefined) return undefined
  const plaintext = unseal(dataKey, sealed.value, bound('value', place))
  dataKey.fill(0)
  const value = plaintext?.toString()
  plaintext?.fill(0)
  return value
}

const CHECK = JSON.stringify(['vivarium', 'key check'])

/** What only this master key opens: tells a wrong key from a damaged secret. */
export function sealCheck(masterKey: Buffer): string {
  return seal(masterKey, Buffer.alloc(0), CHECK)
}

export function opensCheck(masterKey: Buffer, check: string): boolean {
  return unseal(masterKey, check, CHECK) !== undefined
}

/** Authenticated with the ciphertext; as JSON, so that no two places read the same. */
function bound(what: string, { userId, name, version }: Place): string {
  return JSON.stringify(['vivarium', what, userId, name, version])
}

/** AES-256-GCM as `v1.` and nonce, ciphertext, tag in base64url. */
function seal(key: Buffer, plaintext: Buffer, associated: string): string {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.from(associated))
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()])
  return `${FORMAT}.${Buffer.concat([nonce, ciphertext, cipher.getAuthTag()]).toString('base64url')}`
}

function unseal(key: Buffer, sealed: string, associated: string): Buffer | undefined {
  const [format, text = ''] = sealed.split('.')
  const bytes = Buffer.from(text, 'base64url')
  if (format !== FORMAT || bytes.length < NONCE_BYTES + TAG_BYTES) return undefined
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
  decipher.setAAD(Buffer.from(associated))
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
  try {
    return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()])
  } catch {
    // Another key, another place, or changed bytes: GCM does not tell, and the caller need not know.
    return undefined
  }
}
