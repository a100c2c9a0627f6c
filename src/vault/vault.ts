import { VivariumError } from '../contracts/errors.ts'
import type { AuditAction, AuditEntry, AuditQuery, RotateResult, SecretInfo } from '../contracts/secret.ts'
import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import type { Logger } from '../telemetry/types.ts'
import { ALL, changeLine, type AuditLine } from './audit-line.ts'
import { Auditor } from './auditor.ts'
import type { KeyFile } from './key-file.ts'
import type { GivenKeys, MasterKey } from './master-key.ts'
import { damaged, readRows, reseal, type SecretRow } from './rows.ts'
import { openSecret, sealSecret } from './seal.ts'
import type { SecretScope, SecretTarget, SecretUse, Vault } from './types.ts'
import { unlock } from './unlock.ts'

export interface VaultOptions {
  database: Database
  keyFile: KeyFile
  given: GivenKeys
  /** Removes every stored secret first: the way out when the master key is lost. */
  forgetSecrets: boolean
  log: Logger
}

/** Opens the vault. Rejects with `setup_required` when its master key is not here, and with `storage_failed`. */
export async function openVault(options: VaultOptions): Promise<Vault> {
  return storing("The vault can't be opened", async () => {
    const { database, keyFile, log } = options
    if (options.forgetSecrets) await forget(database, log)
    const key = await unlock(options)
    const vault = new StoredVault(database, keyFile, log, key, await readRows(database))
    await vault.begin()
    return vault
  })
}

async function forget(database: Database, log: Logger): Promise<void> {
  await database.transaction().execute(async (trx) => {
    const { numDeletedRows } = await trx.deleteFrom('secrets').executeTakeFirst()
    await trx.deleteFrom('masterKey').execute()
    await trx
      .insertInto('audit')
      .values(changeLine('forget', ALL, null))
      .execute()
    log.warn({ secrets: Number(numDeletedRows) }, 'Stored secrets were forgotten, as asked')
  })
}

/**
 * The vault over the store. Rows stay in memory as they are stored, encrypted, so that a use waits for nothing; a value exists
 * in the clear only while it is used.
 */
class StoredVault implements Vault {
  readonly #database: Database
  readonly #keyFile: KeyFile
  readonly #log: Logger
  readonly #auditor: Auditor
  #key: MasterKey
  #rows: Map<string, SecretRow>
  /** The end of the last change: changes happen one after the other. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(database: Database, keyFile: KeyFile, log: Logger, key: MasterKey, rows: SecretRow[]) {
    this.#database = database
    this.#keyFile = keyFile
    this.#log = log
    this.#auditor = new Auditor(database, log)
    this.#key = key
    this.#rows = byTarget(rows)
  }

  async begin(): Promise<void> {
    await this.#auditor.prune()
    for (const row of this.#rows.values()) {
      if (openSecret(this.#key.bytes, row, row) === undefined) this.#log.error(damaged(row.name).message)
    }
  }

  scope(userId: string, name: string): SecretScope | undefined {
    if (this.#rows.has(keyOf({ userId, name }))) return 'own'
    return this.#rows.has(keyOf({ userId: null, name })) ? 'shared' : undefined
  }

  use(userId: string, name: string, use: SecretUse, scope = this.scope(userId, name)): string | undefined {
    const row = this.#rows.get(keyOf({ userId: scope === 'own' ? userId : null, name }))
    if (row === undefined) return undefined
    const value = this.#open(row)
    this.#auditor.used(row, userId, use)
    return value
  }

  async list(userId?: string): Promise<SecretInfo[]> {
    const rows = await storing("Secrets can't be read", () => readRows(this.#database))
    return rows.filter((row) => userId === undefined || row.userId === null || row.userId === userId).map(shown)
  }

  async set(target: SecretTarget, value: string, by: string): Promise<SecretInfo> {
    return this.#change(`The secret "${target.name}" can't be stored`, () => this.#put(target, value, 'set', by))
  }

  async importOnce(target: { userId: string; name: string }, value: string) {
    const { userId, name } = target
    return this.#change(`The secret "${name}" can't be stored`, async () => {
      const scope = this.scope(userId, name)
      const row = this.#rows.get(keyOf({ userId: scope === 'own' ? userId : null, name }))
      if (row !== undefined) return openSecret(this.#key.bytes, row, row) === value ? 'same' : 'differs'
      await this.#put(target, value, 'import', null)
      return 'imported'
    })
  }

  async remove(target: SecretTarget, by: string): Promise<void> {
    await this.#change(`The secret "${target.name}" can't be removed`, async () => {
      const row = this.#rows.get(keyOf(target))
      if (row === undefined) throw new VivariumError('not_found', `There is no secret "${target.name}".`)
      await this.#database.transaction().execute(async (trx) => {
        await trx.deleteFrom('secrets').where('id', '=', row.id).execute()
        await trx
          .insertInto('audit')
          .values(changeLine('remove', target, by))
          .execute()
      })
      this.#rows.delete(keyOf(target))
    })
  }

  async rotate({ master }: { master: boolean }, by: string): Promise<RotateResult> {
    return this.#change("The vault's keys can't be rotated", async () => {
      if (master) await this.#rotateMaster(by)
      else await this.#reseal(this.#key, changeLine('rotate', ALL, by))
      return { secrets: this.#rows.size, master }
    })
  }

  audit(query: AuditQuery & { userId?: string }): Promise<AuditEntry[]> {
    return storing("The audit can't be read", () => this.#auditor.query(query))
  }

  forgetUser(userId: string): void {
    for (const [key, row] of this.#rows) if (row.userId === userId) this.#rows.delete(key)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last
    await this.#auditor[Symbol.asyncDispose]()
    this.#rows.clear()
    this.#key.bytes.fill(0)
  }

  #open(row: SecretRow): string {
    const value = openSecret(this.#key.bytes, row, row)
    if (value !== undefined) return value
    const error = damaged(row.name)
    this.#log.error({ userId: row.userId }, error.message)
    throw error
  }

  async #put(target: SecretTarget, value: string, action: AuditAction, by: string | null): Promise<SecretInfo> {
    const { userId, name } = target
    const present = this.#rows.get(keyOf(target))
    const at = new Date().toISOString()
    const version = (present?.version ?? 0) + 1
    const sealed = sealSecret(this.#key.bytes, { userId, name, version }, value)
    const row = await this.#database.transaction().execute(async (trx) => {
      await requireUser(trx, userId)
      await trx
        .insertInto('audit')
        .values(changeLine(action, target, by))
        .execute()
      if (present !== undefined) {
        const changed = { ...sealed, version, updatedAt: at }
        const update = trx.updateTable('secrets').set(changed).where('id', '=', present.id)
        return update.returningAll().executeTakeFirstOrThrow()
      }
      const made = { userId, name, version, ...sealed, createdAt: at, updatedAt: at, lastUsedAt: null }
      return trx.insertInto('secrets').values(made).returningAll().executeTakeFirstOrThrow()
    })
    this.#rows.set(keyOf(target), row)
    return shown(row)
  }

  /** The old key's file goes when nothing is under it any more; killed at any point, one of the two files opens everything. */
  async #rotateMaster(by: string): Promise<void> {
    if (this.#key.source !== 'file') throw givenFromOutside(this.#key)
    await this.#settle()
    const next: MasterKey = { bytes: await this.#keyFile.stage(), source: 'file' }
    const former = this.#key.bytes
    await this.#reseal(next, changeLine('rotate-master', ALL, by))
    former.fill(0)
    await this.#keyFile.promote()
  }

  /** Key and rows change together, so that a use in between finds what belongs together. */
  async #reseal(key: MasterKey, line: AuditLine): Promise<void> {
    const rows = await reseal(this.#database, this.#key.bytes, key, line)
    this.#rows = byTarget(rows)
    this.#key = key
  }

  /** What an earlier rotation left that failed half way: the key we use, whose file has not got its name yet, or one that nothing uses. */
  async #settle(): Promise<void> {
    const staged = this.#keyFile.readStaged()
    if (staged?.equals(this.#key.bytes) === true) await this.#keyFile.promote()
    else await this.#keyFile.discard()
  }

  #change<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
    const done = this.#last.then(() => storing(what, work))
    this.#last = done.catch(() => undefined) // whoever asked for it is told
    return done
  }
}

function keyOf({ userId, name }: SecretTarget): string {
  return `${userId ?? ''}/${name}`
}

function byTarget(rows: SecretRow[]): Map<string, SecretRow> {
  return new Map(rows.map((row) => [keyOf(row), row]))
}

function shown({ name, userId, version, createdAt, updatedAt, lastUsedAt }: SecretRow): SecretInfo {
  return { name, userId, version, createdAt, updatedAt, lastUsedAt }
}

async function requireUser(database: Database, userId: string | null): Promise<void> {
  if (userId === null) return
  const user = await database.selectFrom('users').where('id', '=', userId).select('id').executeTakeFirst()
  if (user === undefined) throw new VivariumError('not_found', `There is no user ${userId}.`, { field: 'userId' })
}

function givenFromOutside({ source }: MasterKey): VivariumError {
  const where = source === 'systemd' ? 'a systemd credential' : 'the environment (VIVARIUM_MASTER_KEY)'
  return new VivariumError(
    'conflict',
    `The master key comes from ${where}, where this server can't replace it. Start the server once with the new key there ` +
      'and the present one in VIVARIUM_PREVIOUS_MASTER_KEY: it then moves all secrets over.',
  )
}
