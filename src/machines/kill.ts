import { setTimeout as sleep } from 'node:timers/promises'
import { VivariumError } from '../contracts/errors.ts'
import { machineGroup } from './cgroup.ts'
import { isRunning, killProcess, processesNamed, processesOf, type ProcessEntry } from './process-identity.ts'
import { livesIn } from './sandbox-owner.ts'
import type { ProcessIdentity } from './types.ts'

/** A killed process may need a moment to give back its memory. */
const KILL_DEADLINE_MS = 30_000

/** All that is known of a machine's processes: any of the three may be missing. */
export interface MachineProcesses {
  id: string
  runDir: string
  identity: ProcessIdentity | undefined
  /** The uid leased to this machine alone; without one its processes are also looked for by the name they were given. */
  uid: number | undefined
}

/**
 * Kills a machine's processes by control group, by identity and by uid or name: each finds what another misses, e.g. a VMM
 * whose orchestrator died before it wrote the pid down. What lives in another machine's sandbox is left alone: a uid may have been leased
 * anew since, by another orchestrator. Resolves when they are gone and their group is removed; rejects
 * with `engine_failed` if they can't be killed.
 */
export async function killMachineProcesses(machine: MachineProcesses): Promise<void> {
  const group = await machineGroup(machine.runDir)
  const deadline = performance.now() + KILL_DEADLINE_MS
  for (;;) {
    const found = await processesOfMachine(machine)
    const left = found.filter(({ zombie }) => !zombie)
    if (left.length === 0) return group.remove()
    if (performance.now() > deadline)
      throw new VivariumError('engine_failed', `Machine ${machine.id} can't be killed: process ${left[0]?.pid} stays.`)
    await group.kill()
    // Parents last: the sandbox's helper leaves by itself once it has heard of the VMM's end, so that no zombie stays.
    for (const entry of left) if (!found.some(({ parent }) => parent === entry.pid)) await killProcess(entry)
    await sleep(10)
  }
}

async function processesOfMachine(machine: MachineProcesses): Promise<ProcessEntry[]> {
  const { id, runDir, identity, uid } = machine
  const found = await (uid === undefined ? processesByName(id, runDir) : processesByUid(uid, runDir))
  if (identity === undefined || found.some(({ pid }) => pid === identity.pid)) return found
  return (await isRunning(identity)) ? [...found, { ...identity, parent: 0, zombie: false }] : found
}

/** Also what has left its sandbox; not what lives in another machine's, nor the helper that waits for that. */
async function processesByUid(uid: number, runDir: string): Promise<ProcessEntry[]> {
  const candidates = await processesOf(uid)
  const isOurs = await Promise.all(candidates.map(({ pid }) => livesIn(pid, runDir)))
  const others = candidates.filter((_, index) => isOurs[index] === false)
  return candidates.filter((entry) => !others.some(({ pid, parent }) => entry.pid === pid || entry.pid === parent))
}

/** Those in the machine's sandbox, and the helper whose arguments hold the run folder: anybody can give a process that name. */
async function processesByName(id: string, runDir: string): Promise<ProcessEntry[]> {
  const name = `vivarium-${id}`
  const [candidates, helpers] = await Promise.all([processesNamed(name), processesNamed(name, runDir)])
  const isOurs = await Promise.all(candidates.map(({ pid }) => livesIn(pid, runDir)))
  return candidates.filter(({ pid }, index) => isOurs[index] === true || helpers.some((helper) => helper.pid === pid))
}
