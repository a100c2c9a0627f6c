import { setTimeout as sleep } from 'node:timers/promises'
import { VivariumError } from '../contracts/errors.ts'
import { machineGroup } from './cgroup.ts'
import { isRunning, killProcess, processesNamed, processesOf } from './process-identity.ts'
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
 * Kills a machine's processes by control group, by identity and by uid or name: each finds what another misses, e.g. a VMM whose
 * orchestrator died before it wrote the pid down. Resolves when they are gone and their group is removed; rejects with
 * `engine_failed` if they can't be killed.
 */
export async function killMachineProcesses(machine: MachineProcesses): Promise<void> {
  const group = await machineGroup(machine.id)
  const deadline = Date.now() + KILL_DEADLINE_MS
  for (;;) {
    const left = await processesOfMachine(machine)
    if (left.length === 0) return group.remove()
    if (Date.now() > deadline)
      throw new VivariumError('engine_failed', `Machine ${machine.id} can't be killed: process ${left[0]?.pid} stays.`)
    await group.kill()
    for (const identity of left) await killProcess(identity)
    await sleep(10)
  }
}

async function processesOfMachine({ id, identity, uid }: MachineProcesses): Promise<ProcessIdentity[]> {
  const known = identity !== undefined && (await isRunning(identity)) ? [identity] : []
  return [...known, ...(await (uid === undefined ? processesNamed(`vivarium-${id}`) : processesOf(uid)))]
}
