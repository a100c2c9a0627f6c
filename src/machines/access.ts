import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { Gateway } from '../gateway/types.ts'
import { runCommand, streamCommand } from './exec.ts'
import type { Machine, MachineAccess, Machines } from './types.ts'

/** Files are streamed, so this bounds time and disk of a client, not memory here. */
const MAX_FILE_BYTES = 4 * 1024 ** 3

export interface MachineAccessOptions {
  machines: Machines
  gateway: Gateway
  /** What all machines together may use, those of tasks included. */
  capacity: { totalMemoryMib: number; maxMachines: number }
}

/** People's access to machines: checks whose a machine is, and gives machines without a task their way out. */
export function createMachineAccess({ machines, gateway, capacity }: MachineAccessOptions): MachineAccess {
  /** Memory of machines asked for, by id, until they start: the first one may wait long for its image. */
  const askedFor = new Map<string, number>()

  /** A task waits in the queue for its place; somebody who asks for a machine is told that there is none. */
  function refuseIfFull(memoryMib: number): void {
    const present = new Map([...askedFor, ...machines.list().map((info) => [info.id, info.memoryMib] as const)])
    const memory = present.values().reduce((sum, mib) => sum + mib, memoryMib)
    if (present.size < capacity.maxMachines && memory <= capacity.totalMemoryMib) return
    const limits = `${capacity.maxMachines} machines with ${capacity.totalMemoryMib} MiB together`
    throw new VivariumError(
      'queue_full',
      `There is no room for another machine: this host runs at most ${limits} (machines.maxMachines, machines.totalMemoryMib). Destroy one, or wait for a task to end.`,
    )
  }

  function get(userId: string, id: string): MachineInfo {
    const info = machines.list().find((machine) => machine.id === id && machine.userId === userId)
    if (info === undefined) throw new VivariumError('not_found', `There is no machine ${id}.`)
    return info
  }

  function ready(userId: string, id: string): Machine {
    const { state } = get(userId, id)
    const machine = machines.get(id)
    if (machine === undefined || state !== 'ready')
      throw new VivariumError('conflict', `Machine ${id} is ${state}; it can be used while it is ready.`)
    return machine
  }

  return {
    list: (userId) => machines.list().filter((machine) => machine.userId === userId),
    get,
    async create(userId, { memoryMib, vcpus, network }, signal) {
      refuseIfFull(memoryMib)
      const id = newId('vm')
      askedFor.set(id, memoryMib)
      const session = gateway.open({ machineId: id, userId, taskId: null, policy: network, maxCostUsd: undefined })
      // Follows the machine to its end, whoever ends it.
      const stop = machines.watch((info) => {
        if (info.id !== id || info.state !== 'gone') return
        stop()
        void session.close()
      })
      try {
        const machine = await machines.create({
          id,
          userId,
          taskId: null,
          memoryMib,
          vcpus,
          egress: (socket) => session.accept(socket),
          ...(signal && { signal }),
        })
        void machine.lost.then(() => machine.destroy()).catch(() => {}) // logged where it failed; kept in the journal
        return machine.info()
      } catch (error) {
        stop()
        await session.close()
        throw error
      } finally {
        askedFor.delete(id)
      }
    },
    async destroy(userId, id) {
      get(userId, id)
      await machines.evict(id, 'The machine was destroyed by its user.')
    },
    exec: async (userId, id, request, signal) => runCommand(ready(userId, id).link, request, signal),
    execStream: (userId, id, request, signal) => streamCommand(ready(userId, id).link, request, signal),
    readFile: async (userId, id, path, signal) =>
      ready(userId, id).link.readFile(path, { maxBytes: MAX_FILE_BYTES, ...(signal && { signal }) }),
    writeFile: async (userId, id, path, body, signal) =>
      ready(userId, id).link.writeFile(path, body, { ...(signal && { signal }) }),
  }
}
