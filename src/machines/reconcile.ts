import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../telemetry/types.ts'
import { machineEntries, removeFolders, STATE_FILE } from './folders.ts'
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
 * Takes up what a previous orchestrator left: suspended machines that are still to be kept. Removes the rest: first what its
 * journal names, then folders that look like a machine's and are in nobody's journal, e.g. because the database was restored
 * from a copy. Returns the ids of the machines removed. One that can be neither taken up nor removed now stays in the journal and is
 * logged; it does not keep the others.
 */
export async function reconcile(options: ReconcileOptions): Promise<string[]> {
  const { journal, log } = options
  const removed: string[] = []
  const kept = new Set<string>()
  for (const entry of await journal.all()) {
    if (options.isCurrent(entry.id)) continue
    try {
      await killMachineProcesses(entry)
      if (await isKept(entry)) {
        await options.reopen(entry)
        log.info({ machineId: entry.id }, 'took up a suspended machine of a previous run')
        continue
      }
      await removeFolders([entry.runDir, entry.diskDir])
      await journal.remove(entry.id)
      removed.push(entry.id)
      log.info({ machineId: entry.id }, 'removed a machine that a previous run had left')
    } catch (err) {
      kept.add(entry.id)
      log.error({ err, machineId: entry.id }, 'a machine of a previous run could not be taken up or removed')
    }
  }
  for (const folder of [options.runDir, options.diskDir])
    for (const { name, path } of await machineEntries(folder))
      if (!kept.has(name) && !options.isCurrent(name)) await removeStray(name, path, log)
  return removed
}

/** Whether a machine was suspended, is all there, and is still to be kept. */
async function isKept({ state, keepUntil, diskDir }: JournalEntry): Promise<boolean> {
  if (state !== 'suspended' || keepUntil === null || keepUntil < new Date().toISOString()) return false
  const saved = await stat(join(diskDir, STATE_FILE)).catch(() => undefined) // taken up already, or removed by somebody
  return saved !== undefined
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
