import { stat } from 'node:fs/promises'
import type { Logger } from '../telemetry/types.ts'
import { isSaved, removeFolders } from './folders.ts'
import type { Journal, JournalEntry } from './journal.ts'
import { killMachineProcesses } from './kill.ts'
import { isRunning } from './process-identity.ts'
import { NOBODY, type Claims } from './types.ts'

export interface ReconcileOptions {
  journal: Journal
  log: Logger
  claims: Claims
  /** Whether a machine is this orchestrator's own. */
  isCurrent: (id: string) => boolean
  /** Takes up a machine. */
  reopen: (entry: JournalEntry, found: FoundState) => Promise<unknown>
}

/** How a machine of an earlier orchestrator was found: its VMM runs, it is saved in its disk folder, or only its disk is left. */
export type FoundState = 'running' | 'suspended' | 'crashed'

/**
 * Takes up what a previous orchestrator's journal names: machines that somebody uses or keeps. Removes the rest. Returns the ids of the
 * machines removed. One that can be neither taken up nor removed now stays in the journal and is logged; it does not keep the others.
 */
export async function reconcile(options: ReconcileOptions): Promise<string[]> {
  const { journal, claims, log } = options
  const removed: string[] = []
  for (const journaled of await journal.all()) {
    if (options.isCurrent(journaled.id)) continue
    try {
      const entry = await claimed(journal, journaled, claims)
      if (entry !== undefined) {
        const found = await findState(entry)
        await options.reopen(entry, found)
        log.info({ machineId: entry.id, found }, 'took up a machine of a previous run')
        continue
      }
      await killMachineProcesses(journaled)
      await removeFolders([journaled.runDir, journaled.diskDir])
      await journal.remove(journaled.id)
      removed.push(journaled.id)
      log.info({ machineId: journaled.id }, 'removed a machine that a previous run had left')
    } catch (err) {
      log.error({ err, machineId: journaled.id }, 'a machine of a previous run could not be taken up or removed')
    }
  }
  return removed
}

/** What a machine is for, from now on; undefined where nobody needs it. Its disk must be there, and it must have run. */
async function claimed(journal: Journal, entry: JournalEntry, claims: Claims): Promise<JournalEntry | undefined> {
  const { id, userId, taskId, keepUntil, startedFrom, diskDir } = entry
  if (userId === NOBODY || entry.identity === undefined || !(await isThere(diskDir))) return undefined
  if (claims.inUse.has(id)) return { ...entry, keepUntil: null }
  const isKept = keepUntil !== null && keepUntil > new Date().toISOString()
  if (taskId === null) return keepUntil === null || isKept ? entry : undefined
  if (!isKept) return undefined
  const givenBack = claims.givenBack.get(id)
  if (givenBack === undefined) return entry
  const use = { userId, taskId: givenBack, keepUntil, startedFrom }
  await journal.setUse(id, use)
  return { ...entry, ...use }
}

async function findState(entry: JournalEntry): Promise<FoundState> {
  const { identity, state, diskDir } = entry
  if (state === 'running' && identity !== undefined && (await isRunning(identity))) return 'running'
  await killMachineProcesses(entry)
  // A complete state is removed before its machine goes on, so one that is there is the newest of the machine.
  return (await isSaved(diskDir)) ? 'suspended' : 'crashed'
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined
}
