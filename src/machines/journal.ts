import type { Database } from '../store/database.ts'
import type { Selectable, Updateable } from 'kysely'
import { z } from 'zod'
import { NetworkPolicy } from '../contracts/network.ts'
import type { MachinesTable } from '../store/tables.ts'
import type { Dependencies } from './dependencies.ts'
import type { ProcessIdentity } from './types.ts'
import { canLeaseUids, leaseUid } from './uid-lease.ts'

type Row = Selectable<MachinesTable>

export type NewJournalEntry = Omit<Row, 'uid' | 'pid' | 'startTime' | 'dependsOnJson' | 'networkJson'> & {
  dependsOn: Dependencies
  /** Of a machine without a task. */
  network: NetworkPolicy | undefined
}

/** What was written down of a machine, with its process as far as it got. */
export interface JournalEntry extends NewJournalEntry {
  uid: number | undefined
  identity: ProcessIdentity | undefined
}

/** Whose machine it is, and how it came to be theirs. */
export type JournaledUse = Pick<Row, 'userId' | 'taskId' | 'keepUntil' | 'startedFrom'>

const DependenciesJson = z.record(z.string(), z.string()).catch({})

/** The journal of machines: written before anything of a machine exists, cleared when nothing of it is left. */
export class Journal {
  readonly #database: Database
  #lastLease: Promise<unknown> = Promise.resolve()

  constructor(database: Database) {
    this.#database = database
  }

  /** Writes a machine down and leases it a uid, which is undefined where uids can't be had. */
  add(entry: NewJournalEntry): Promise<number | undefined> {
    // One after the other: a lease is only taken once it is written down.
    const added = this.#lastLease.then(() => this.#add(entry))
    this.#lastLease = added.catch(() => {}) // the caller hears of it
    return added
  }

  /** A VMM of this identity is about to run the machine. */
  setRunning(id: string, { pid, startTime }: ProcessIdentity): Promise<void> {
    return this.#set(id, { pid, startTime, state: 'running' })
  }

  /** The machine's disk folder is all of it now; a VMM that is still there has nothing more to do. */
  setSuspended(id: string): Promise<void> {
    return this.#set(id, { state: 'suspended' })
  }

  setUse(id: string, { userId, taskId, keepUntil, startedFrom }: JournaledUse): Promise<void> {
    return this.#set(id, { userId, taskId, keepUntil, startedFrom })
  }

  async remove(id: string): Promise<void> {
    await this.#database.deleteFrom('machines').where('id', '=', id).execute()
  }

  async all(): Promise<JournalEntry[]> {
    const rows = await this.#database.selectFrom('machines').selectAll().execute()
    return rows.map(({ uid, pid, startTime, dependsOnJson, networkJson, ...entry }) => ({
      ...entry,
      dependsOn: DependenciesJson.parse(JSON.parse(dependsOnJson)),
      network: networkJson === null ? undefined : NetworkPolicy.parse(JSON.parse(networkJson)),
      uid: uid ?? undefined,
      identity: pid === null || startTime === null ? undefined : { pid, startTime },
    }))
  }

  async #set(id: string, change: Updateable<MachinesTable>): Promise<void> {
    await this.#database.updateTable('machines').set(change).where('id', '=', id).execute()
  }

  async #add({ dependsOn, network, ...entry }: NewJournalEntry): Promise<number | undefined> {
    const uid = (await canLeaseUids()) ? await leaseUid(await this.#takenUids()) : undefined
    const networkJson = network === undefined ? null : JSON.stringify(network)
    const more = { dependsOnJson: JSON.stringify(dependsOn), networkJson, uid: uid ?? null }
    const row = { ...entry, ...more, pid: null, startTime: null }
    await this.#database.insertInto('machines').values(row).execute()
    return uid
  }

  async #takenUids(): Promise<Set<number>> {
    const rows = await this.#database.selectFrom('machines').select('uid').execute()
    return new Set(rows.map(({ uid }) => uid).filter((uid) => uid !== null))
  }
}
