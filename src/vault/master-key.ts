import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'

export const CREDENTIAL_NAME = 'vivarium-master-key'
export const MASTER_KEY_VARIABLE = 'VIVARIUM_MASTER_KEY'
export const PREVIOUS_KEY_VARIABLE = 'VIVARIUM_PREVIOUS_MASTER_KEY'

const KEY_BYTES = 32

export type KeySource = 'systemd' | 'environment' | 'file'

export interface MasterKey {
  bytes: Buffer
  source: KeySource
}

/** What the process was given at its start. */
export interface GivenKeys {
  /** `VIVARIUM_MASTER_KEY`. */
  masterKey: string | undefined
  /** `VIVARIUM_PREVIOUS_MASTER_KEY`: what the vault is still encrypted with, to move it to the key given. */
  previousMasterKey: string | undefined
  /** `CREDENTIALS_DIRECTORY`, where systemd puts a service's credentials. */
  directory: string | undefined
}

/** The key from outside the data folder, if there is one: systemd's before the environment's. Throws `setup_required` for what is no key. */
export function givenKey({ directory, masterKey }: GivenKeys): MasterKey | undefined {
  const fromSystemd = directory === undefined ? undefined : readIfThere(join(directory, CREDENTIAL_NAME))
  if (fromSystemd !== undefined)
    return { bytes: parseKey(fromSystemd, `the systemd credential "${CREDENTIAL_NAME}"`), source: 'systemd' }
  if (masterKey === undefined) return undefined
  return { bytes: parseKey(Buffer.from(masterKey), MASTER_KEY_VARIABLE), source: 'environment' }
}

/** The key that the vault may still be encrypted with. */
export function previousKey({ previousMasterKey }: GivenKeys): Buffer | undefined {
  return previousMasterKey === undefined ? undefined : parseKey(Buffer.from(previousMasterKey), PREVIOUS_KEY_VARIABLE)
}

/** 32 bytes as they are, in hex, or in base64. Throws `setup_required`, without a word of the content. */
export function parseKey(content: Buffer, what: string): Buffer {
  if (content.length === KEY_BYTES) return Buffer.from(content)
  const text = content.toString('latin1').trim()
  const bytes = /^[0-9a-f]{64}$/i.test(text)
    ? Buffer.from(text, 'hex')
    : Buffer.from(/^[\w+/-]{43}=?$/.test(text) ? text : '', 'base64')
  if (bytes.length === KEY_BYTES) return bytes
  throw new VivariumError(
    'setup_required',
    `What ${what} holds is no master key: give 32 random bytes in hex or base64, e.g. from "openssl rand -hex 32".`,
  )
}

/** The content of a small file, or undefined where there is none. */
export function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    const why = error instanceof Error ? error.message : String(error)
    throw new VivariumError('setup_required', `The master key ${path} can't be read: ${why}`, { cause: error })
  }
}
