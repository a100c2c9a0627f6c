import { rm, stat } from 'node:fs/promises'
import type { Logger } from '../telemetry/types.ts'
import { machineEntries, removeFolders } from './folders.ts'
import type { Journal, JournalEntry } from './journal.ts'
import { killMachineProcesses } from './kill.ts'
import { isLeasable } from './uid-lease.ts'

export interface ReconcileOptions {
  journal: Journal
  runDir: string
  diskDir: string
  log: Logger
  /** Whether a machine is this orchestrator's own. */
  isCurrent: (id: string) => boolean
  /** Takes up a suspended machine. */
  reopen: (entry: JournalEntry) => Promise<void>
}

/**
 * Takes up what a previous orchestrator left: suspended machines that are still to be kept. Removes the rest: first what its journal names, then folders that look like a machine's and are
 * in nobody's journal, e.g. because the database was restored from a copy. Returns the ids of the machines removed. One
 * that can't be removed stays in the journal and is logged; it does not keep the others.
 */
export async function reconcile(options: ReconcileOptions): Promise<string[]> {
  const { journal, log } = options
  const removed: string[] = []
  const kept = new Set<string>()
  for (const entry of await journal.all()) {
    if (options.isCurrent(entry.id)) continue
    try {
      await killMachineProcesses(entry)
      if (await reopened(entry, options)) continue
      await removeFolders([entry.runDir, entry.diskDir])
      await journal.remove(entry.id)
      removed.push(entry.id)
      log.info({ machineId: entry.id }, 'removed a machine that a previous run had left')
    } catch (err) {
      kept.add(entry.id)
      log.error({ err, machineId: entry.id }, 'a machine of a previous run could not be removed')
    }
  }
  for (const folder of [options.runDir, options.diskDir])
    for (const { name, path } of await machineEntries(folder))
      if (!kept.has(name) && !options.isCurrent(name)) await removeStray(name, path, log)
  return removed
}

/** Whether a machine was suspended, is still to be kept, and could be taken up. */
async function reopened(entry: JournalEntry, { reopen, log }: ReconcileOptions): Promise<boolean> {
  if (entry.state !== 'suspended' || entry.keepUntil === null || entry.keepUntil < new Date().toISOString())
    return false
  try {
    await reopen(entry)
    log.info({ machineId: entry.id }, 'took up a suspended machine of a previous run')
    return true
  } catch (err) {
    log.warn({ err, machineId: entry.id }, 'a suspended machine could not be taken up')
    return false
  }
}

async function removeStray(id: string, path: string, log: Logger): Promise<void> {
  try {
    const { uid } = await stat(path)
    await killMachineProcesses({ id, identity: undefined, uid: isLeasable(uid) ? uid : undefined })
    await rm(path, { recursive: true, force: true })
    log.warn({ path }, 'removed a folder of a machine that no journal names')
  } catch (err) {
    log.error({ err, path }, 'a folder of a machine that no journal names could not be removed')
  }
}
