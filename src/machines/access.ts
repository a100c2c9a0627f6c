import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { NetworkPolicy } from '../contracts/network.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { Gateway } from '../gateway/types.ts'
import type { GuestLink } from '../link/types.ts'
import { runCommand, streamCommand } from './exec.ts'
import { openShell } from './shell.ts'
import {
  NOBODY,
  type Capacity,
  type MachineAccess,
  type MachineLease,
  type Machines,
  type MachineSize,
} from './types.ts'

/** Files are streamed, so this bounds time and disk of a client, not memory here. */
const MAX_FILE_BYTES = 4 * 1024 ** 3

/** States in which a machine can be used, at once or once it is resumed. */
const USABLE: ReadonlySet<MachineInfo['state']> = new Set(['ready', 'suspended', 'suspending', 'resuming'])

export interface MachineAccessOptions {
  machines: Machines
  gateway: Gateway
  capacity: Capacity
}

/** People's access to machines: checks whose a machine is, and gives machines without a task their way out. */
export function createMachineAccess({ machines, gateway, capacity }: MachineAccessOptions): MachineAccess {
  /** A task waits in the queue for its place; somebody who asks for a machine is told that there is none. */
  function refuseIfFull(size: MachineSize): void {
    const shortage = capacity.shortage([size], capacity.free())
    if (shortage === undefined) return
    const { machines: count, memoryMib, vcpus } = capacity.limits
    const limits = `${count} machines with ${memoryMib} MiB and ${vcpus} virtual processors together`
    const message = `There is no room for another machine: it lacks ${shortage.words}. This host runs at most ${limits} ("machines" in the settings). Destroy one, or wait for a task to end.`
    throw new VivariumError('queue_full', message)
  }

  /** A suspended machine takes its room again; that of a running task has kept it. */
  function refuseResume(info: MachineInfo): void {
    if (info.state === 'suspended' && !capacity.isClaimed(info)) refuseIfFull(info)
  }

  /** A machine's way out, which follows it to its end, whoever ends it. */
  function openSession(userId: string, id: string, policy: NetworkPolicy | undefined) {
    const session = gateway.open({ machineId: id, userId, taskId: null, policy, maxCostUsd: undefined })
    const stop = machines.watch((info) => {
      if (info.id !== id || info.state !== 'gone') return
      stop()
      void session.close()
    })
    return { session, stop }
  }

  function get(userId: string, id: string): MachineInfo {
    const info = machines.list().find((machine) => machine.id === id && machine.userId === userId)
    if (info === undefined) throw new VivariumError('not_found', `There is no machine ${id}.`)
    return info
  }

  /** Calls `use` with a machine that runs: one that is suspended is resumed, if there is room, and is not suspended meanwhile. */
  async function withLink<T>(
    userId: string,
    id: string,
    signal: AbortSignal | undefined,
    use: (link: GuestLink) => Promise<T>,
  ) {
    using lease = await leased(userId, id, signal)
    return use(lease.machine.link)
  }

  async function leased(userId: string, id: string, signal: AbortSignal | undefined): Promise<MachineLease> {
    const info = get(userId, id)
    const { state } = info
    if (!USABLE.has(state))
      throw new VivariumError('conflict', `Machine ${id} is ${state}; it can be used while it is ready.`)
    refuseResume(info)
    return machines.lease(id, signal)
  }

  return {
    async recover() {
      const own = machines.list().filter(({ userId, taskId }) => userId !== NOBODY && taskId === null)
      for (const { id, userId } of own) {
        const { session } = openSession(userId, id, machines.networkOf(id))
        await machines.rejoin(id, { egress: (socket) => session.accept(socket) })
      }
    },
    list: (userId) => machines.list().filter((machine) => machine.userId === userId),
    get,
    async create(userId, { memoryMib, vcpus, template, network }, signal) {
      capacity.refuseTooLarge({ memoryMib, vcpus })
      refuseIfFull({ memoryMib, vcpus })
      const id = newId('vm')
      // The first one may wait long for its image: its room is taken until it counts by itself.
      using _ = capacity.take({ ids: [id], memoryMib, vcpus })
      const { session, stop } = openSession(userId, id, network)
      try {
        const machine = await machines.create({
          id,
          userId,
          taskId: null,
          memoryMib,
          vcpus,
          egress: (socket) => session.accept(socket),
          ...(network !== undefined && { network }),
          ...(template !== undefined && { template }),
          ...(signal && { signal }),
        })
        return machine.info()
      } catch (error) {
        stop()
        await session.close()
        throw error
      }
    },
    async destroy(userId, id) {
      get(userId, id)
      await machines.evict(id, 'The machine was destroyed by its user.')
    },
    async suspend(userId, id) {
      get(userId, id)
      await machines.suspend(id)
      return get(userId, id)
    },
    async resume(userId, id, signal) {
      refuseResume(get(userId, id))
      await machines.resume(id, signal)
      return get(userId, id)
    },
    exec: (userId, id, request, signal) => withLink(userId, id, signal, (link) => runCommand(link, request, signal)),
    execStream(userId, id, request, signal) {
      get(userId, id) // a refusal comes before the stream does
      return (async function* () {
        using lease = await leased(userId, id, signal)
        yield* streamCommand(lease.machine.link, request, signal)
      })()
    },
    async shell(userId, id, request, signal) {
      return openShell(await leased(userId, id, signal), request, signal)
    },
    async readFile(userId, id, path, signal) {
      const lease = await leased(userId, id, signal)
      try {
        const options = { maxBytes: MAX_FILE_BYTES, ...(signal && { signal }) }
        const file = await lease.machine.link.readFile(path, options)
        // The machine is in use until the last byte is on its way, or its reader has left.
        file.body.once('close', () => lease[Symbol.dispose]())
        return file
      } catch (error) {
        lease[Symbol.dispose]()
        throw error
      }
    },
    writeFile: (userId, id, path, body, signal) =>
      withLink(userId, id, signal, (link) => link.writeFile(path, body, { ...(signal && { signal }) })),
  }
}
