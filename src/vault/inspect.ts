import { existsSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { createKeyFile } from './key-file.ts'
import { givenKey, previousKey, type GivenKeys } from './master-key.ts'
import { opensCheck } from './seal.ts'

/** What a vault looks like from outside, without a server and without opening a secret. */
export interface VaultReport {
  /** Names of the stored secrets; `shared` where one serves all users. */
  secrets: { name: string; shared: boolean }[]
  /**
   * Whether the master key that a server started here and now would use opens them. `elsewhere`: their key was given to the
   * server by systemd or its environment, and is not to be seen from here.
   */
  key: 'none-needed' | 'opens' | 'missing' | 'wrong' | 'elsewhere'
}

/**
 * Looks at the vault of a data folder and changes nothing, also while a server runs on it. Throws what SQLite throws for a
 * file that is no database, and `setup_required` for what is no master key.
 */
export function inspectVault(databasePath: string, keyPath: string, given: GivenKeys): VaultReport {
  if (!existsSync(databasePath)) return { secrets: [], key: 'none-needed' }
  using database = new DatabaseSync(databasePath, { readOnly: true })
  const table = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'master_key'").get()
  if (table === undefined) return { secrets: [], key: 'none-needed' }
  const secrets = database
    .prepare('SELECT DISTINCT name, user_id IS NULL AS shared FROM secrets ORDER BY name')
    .all()
    .map(({ name, shared }) => ({ name: String(name), shared: shared === 1 }))
  if (secrets.length === 0) return { secrets, key: 'none-needed' }
  const check = database.prepare('SELECT sealed_check, source FROM master_key').get()
  return { secrets, key: judge(String(check?.['sealed_check'] ?? ''), check?.['source'], keyPath, given) }
}

function judge(check: string, source: unknown, keyPath: string, given: GivenKeys): VaultReport['key'] {
  const opens = (key: Buffer | undefined) => key !== undefined && opensCheck(key, check)
  const outside = givenKey(given)?.bytes
  if (outside !== undefined) return opens(outside) || opens(previousKey(given)) ? 'opens' : 'wrong'
  const file = createKeyFile(keyPath)
  if (opens(file.read()) || opens(file.readStaged())) return 'opens'
  if (source !== 'file') return 'elsewhere'
  return file.read() === undefined ? 'missing' : 'wrong'
}
