import { VivariumError } from '../contracts/errors.ts'
import type { Database } from '../store/database.ts'
import type { Logger } from '../telemetry/types.ts'
import { ALL, changeLine } from './audit-line.ts'
import type { KeyFile } from './key-file.ts'
import {
  CREDENTIAL_NAME,
  givenKey,
  MASTER_KEY_VARIABLE,
  previousKey,
  type GivenKeys,
  type KeySource,
  type MasterKey,
} from './master-key.ts'
import { readCheck, readRows, reseal, writeCheck } from './rows.ts'
import { opensCheck } from './seal.ts'

export interface Lock {
  database: Database
  keyFile: KeyFile
  given: GivenKeys
  log: Logger
}

/**
 * The master key that opens what is stored: from systemd, the environment, or the key file, in this order. Where nothing is
 * stored yet, whatever key there is counts, and a new key file is made where there is none. A rotation that was killed is brought to its end.
 * Rejects with `setup_required` when secrets are stored and their key is not here; nothing is changed then.
 */
export async function unlock({ database, keyFile, given, log }: Lock): Promise<MasterKey> {
  const present = givenKey(given) ?? fromFile(keyFile.read())
  const secrets = await readRows(database)
  const check = await readCheck(database)
  if (secrets.length === 0) {
    const key = present ?? fromFile(await keyFile.create())
    if (key.source === 'file') await keyFile.discard()
    if (check === undefined || !opensCheck(key.bytes, check.sealedCheck)) await writeCheck(database, key)
    return key
  }
  const opens = (key: Buffer | undefined) =>
    key !== undefined && check !== undefined && opensCheck(key, check.sealedCheck)

  if (present === undefined || present.source === 'file') {
    const staged = keyFile.readStaged()
    if (opens(staged)) await keyFile.promote()
    else if (opens(present?.bytes)) await keyFile.discard()
    const key = fromFile(keyFile.read())
    if (key !== undefined && opens(key.bytes)) return key
    throw refusal(keyFile.path, secrets.length, present, check?.source)
  }
  if (opens(present.bytes)) return present
  const previous = previousKey(given)
  if (previous === undefined || !opens(previous)) throw refusal(keyFile.path, secrets.length, present, check?.source)
  await reseal(database, previous, present, changeLine('rotate-master', ALL, null))
  log.warn(
    { secrets: secrets.length, from: check?.source, to: present.source },
    'The vault was moved to another master key',
  )
  return present
}

function fromFile(bytes: Buffer): MasterKey
function fromFile(bytes: Buffer | undefined): MasterKey | undefined
function fromFile(bytes: Buffer | undefined): MasterKey | undefined {
  return bytes === undefined ? undefined : { bytes, source: 'file' }
}

/** A source in words. */
function placeOf(source: string | undefined, path: string): string {
  const places: Record<KeySource, string> = {
    systemd: `the systemd credential "${CREDENTIAL_NAME}"`,
    environment: `the environment (${MASTER_KEY_VARIABLE})`,
    file: path,
  }
  return places[source as KeySource] ?? 'an unknown place'
}

function refusal(path: string, secrets: number, present: MasterKey | undefined, source: string | undefined) {
  const vault = `the vault, which holds ${secrets} ${secrets === 1 ? 'secret' : 'secrets'}`
  const what =
    present === undefined
      ? `There is no master key to open ${vault}.`
      : `The master key from ${placeOf(present.source, path)} does not open ${vault}.`
  const last = `It was last opened with the key from ${placeOf(source, path)}.`
  return new VivariumError(
    'setup_required',
    `${what} ${last} Nothing was changed. Put that key back, or give up the stored secrets with "vivarium serve --forget-secrets".`,
  )
}
