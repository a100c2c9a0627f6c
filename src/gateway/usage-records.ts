import { setTimeout as sleep } from 'node:timers/promises'
import type { Insertable } from 'kysely'
import type { Database } from '../store/database.ts'
import type { UsageRecordsTable } from '../store/tables.ts'

/** Records wait so long for others, to be stored with one commit: each takes milliseconds in which nothing else is done. */
const GATHER_MS = 50

/** Rows of one statement: databases bound the values in it. */
const MAX_ROWS = 500

export type UsageRecord = Insertable<UsageRecordsTable>

/** What the gateway counts, on its way into the store. */
export class UsageRecords {
  readonly #database: Database
  #batch: { records: UsageRecord[]; stored: Promise<void> } | undefined

  constructor(database: Database) {
    this.#database = database
  }

  /** Resolves when the record is stored. */
  add(record: UsageRecord): Promise<void> {
    const full = this.#batch !== undefined && this.#batch.records.length >= MAX_ROWS
    if (this.#batch === undefined || full) {
      const records: UsageRecord[] = []
      this.#batch = { records, stored: this.#storeSoon(records) }
    }
    this.#batch.records.push(record)
    return this.#batch.stored
  }

  async #storeSoon(records: UsageRecord[]): Promise<void> {
    await sleep(GATHER_MS)
    if (this.#batch?.records === records) this.#batch = undefined
    await this.#database.insertInto('usageRecords').values(records).execute()
  }
}
