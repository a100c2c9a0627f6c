import { setTimeout as sleep } from 'node:timers/promises'
import { VivariumError } from '../contracts/errors.ts'
import { machineGroup } from './cgroup.ts'
import { isRunning, killProcess, processesNamed, processesOf, type ProcessEntry } from './process-identity.ts'
import type { ProcessIdentity } from './types.ts'

/** A killed process may need a moment to give back its memory. */
const KILL_DEADLINE_MS = 30_000

/** All that is known of a machine's processes: any of the three may be missing. */
export interface MachineProcesses {
  id: string
  identity: ProcessIdentity | undefined
  /** The uid leased to this machine alone; without one its processes are also looked for by the name they were given. */
  uid: number | undefined
}

/**
 * Kills a machine's processes by control group, by identity and by uid or name: each finds what another misses, e.g. a VMM
 * whose orchestrator died before it wrote the pid down. Resolves when they are gone and their group is removed; rejects
 * with `engine_failed` if they can't be killed.
 */
export async function killMachineProcesses(machine: MachineProcesses): Promise<void> {
  const group = await machineGroup(machine.id)
  const deadline = Date.now() + KILL_DEADLINE_MS
  for (;;) {
    const found = await processesOfMachine(machine)
    const left = found.filter(({ zombie }) => !zombie)
    if (left.length === 0) return group.remove()
    if (Date.now() > deadline)
      throw new VivariumError('engine_failed', `Machine ${machine.id} can't be killed: process ${left[0]?.pid} stays.`)
    await group.kill()
    // Parents last: the sandbox's helper leaves by itself once it has heard of the VMM's end, so that no zombie stays.
    for (const entry of left) if (!found.some(({ parent }) => parent === entry.pid)) await killProcess(entry)
    await sleep(10)
  }
}

async function processesOfMachine({ id, identity, uid }: MachineProcesses): Promise<ProcessEntry[]> {
  const found = await (uid === undefined ? processesNamed(`vivarium-${id}`) : processesOf(uid))
  if (identity === undefined || found.some(({ pid }) => pid === identity.pid)) return found
  return (await isRunning(identity)) ? [...found, { ...identity, parent: 0, zombie: false }] : found
}
