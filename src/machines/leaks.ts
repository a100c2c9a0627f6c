import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isAbandoned } from '../files/owner.ts'
import type { FoundLeak } from '../reaper/types.ts'
import { emptyGroups } from './cgroup.ts'
import { machineEntries, removeFolders } from './folders.ts'
import type { Journal, JournalEntry } from './journal.ts'
import { killMachineProcesses } from './kill.ts'
import { processesWith } from './process-identity.ts'
import { livesIn } from './sandbox-owner.ts'
import { isLeasable } from './uid-lease.ts'

export interface StrayPlaces {
  /** Folders of run folders and disks, of one orchestrator. */
  runDir: string
  diskDir: string
  /**
   * Ids that somebody owns, or that stand in the journal. Asked for after the look: whoever makes something of a machine has
   * made its id known before, and forgets it when nothing is left.
   */
  known: () => Promise<ReadonlySet<string>>
}

/** How QEMU, and the helper of its sandbox, are named. */
const NAME = /^vivarium-((?:vm_|probe-)[0-9a-z-]+)$/

/** What looks like a machine's of this orchestrator, and is nobody's: folders, processes, control groups. */
export async function findStrays({ runDir, diskDir, known }: StrayPlaces): Promise<FoundLeak[]> {
  const traces = new Map<string, string[]>()
  const add = (id: string, what: string) => traces.set(id, [...(traces.get(id) ?? []), what])
  for (const folder of [runDir, diskDir]) for (const { id, path } of await machineEntries(folder)) add(id, path)
  for (const { id, pid } of await machineProcesses(runDir)) add(id, `process ${pid}`)
  for (const { id, path } of await emptyGroups(runDir)) add(id, path)
  const owned = await known()
  const strays: FoundLeak[] = []
  for (const [id, found] of traces) {
    if (owned.has(id) || (await isProbeUnderWay(runDir, id))) continue
    const why = `no journal names it, and nobody uses it: ${found.join(', ')}`
    strays.push({ kind: 'machine', what: id, why, remove: () => removeStray(id, runDir, diskDir) })
  }
  return strays
}

/** Machines of the journal that nobody has, e.g. because removing them has failed. Suspended ones wait for the next start, while they are to be kept. */
export async function findForgotten(journal: Journal, isCurrent: (id: string) => boolean): Promise<FoundLeak[]> {
  const entries = await journal.all()
  const now = new Date().toISOString()
  const waits = ({ state, keepUntil }: JournalEntry) => state === 'suspended' && keepUntil !== null && keepUntil >= now
  const why = 'it stands in the journal, and nobody uses it'
  return entries
    .filter((entry) => !isCurrent(entry.id) && !waits(entry))
    .map((entry) => ({ kind: 'machine', what: entry.id, why, remove: () => removeForgotten(entry, journal) }))
}

async function removeForgotten(entry: JournalEntry, journal: Journal): Promise<void> {
  await killMachineProcesses(entry)
  await removeFolders([entry.runDir, entry.diskDir])
  await journal.remove(entry.id)
}

async function removeStray(id: string, runFolders: string, diskDir: string): Promise<void> {
  const runDir = join(runFolders, id)
  const owner = await stat(runDir).then(
    ({ uid }) => uid,
    () => undefined, // gone, or never made
  )
  const uid = owner !== undefined && isLeasable(owner) ? owner : undefined
  await killMachineProcesses({ id, runDir, identity: undefined, uid })
  await removeFolders([runDir, `${runDir}.log`, join(diskDir, id)])
}

/** Processes in, or of, sandboxes that show a run folder below `runDir`. Names alone prove nothing: others have machines, too. */
async function machineProcesses(runDir: string): Promise<{ id: string; pid: number }[]> {
  const idOf = (args: readonly string[]) => args.map((arg) => NAME.exec(arg)?.[1]).find((id) => id !== undefined)
  const candidates = await processesWith((args) => idOf(args) !== undefined)
  const ours = await Promise.all(
    candidates.map(async ({ pid, zombie, args }) => {
      const id = idOf(args)
      if (id === undefined || zombie) return undefined
      const folder = join(runDir, id)
      return args.includes(folder) || (await livesIn(pid, folder)) === true ? { id, pid } : undefined
    }),
  )
  return ours.filter((found) => found !== undefined)
}

/** Engines are also tried by others, e.g. `vivarium doctor`. */
async function isProbeUnderWay(runDir: string, id: string): Promise<boolean> {
  return id.startsWith('probe-') && !(await isAbandoned(join(runDir, id)))
}
