import type { MachineInfo } from '../contracts/machine.ts'
import { refuseTooLarge } from './limits.ts'
import {
  NOBODY,
  type Capacity,
  type CapacityLimits,
  type Claim,
  type MachineSize,
  type Room,
  type Shortage,
} from './types.ts'

const GIB_IN_MIB = 1024

export interface CapacityOptions {
  limits: CapacityLimits
  machines: { list(): MachineInfo[] }
  /** Bytes that are free where disks and results go. */
  freeDiskBytes: () => number
}

/**
 * What machines may take of this host, for all who start some: memory, virtual processors and number have limits, and the disk keeps a
 * reserve beyond what each machine is expected to write. A machine of somebody's counts while it is in memory. Room can be claimed
 * before its machine is there; the machine then counts as part of its claim. Machines of nobody's give way, and count for nothing.
 */
export function createCapacity(options: CapacityOptions): Capacity {
  return new SharedCapacity(options)
}

class SharedCapacity implements Capacity {
  readonly limits: CapacityLimits
  readonly #options: CapacityOptions
  readonly #claims = new Set<Claim>()

  constructor(options: CapacityOptions) {
    this.limits = options.limits
    this.#options = options
  }

  refuseTooLarge(size: MachineSize): void {
    refuseTooLarge(size, this.limits.largest)
  }

  take(claim: Claim): Disposable {
    this.#claims.add(claim)
    return { [Symbol.dispose]: () => void this.#claims.delete(claim) }
  }

  isClaimed({ id, taskId }: Pick<MachineInfo, 'id' | 'taskId'>): boolean {
    return [...this.#claims].some(({ ids }) => ids.includes(id) || (taskId !== null && ids.includes(taskId)))
  }

  free(without: readonly Claim[] = []): Room {
    const { limits } = this
    const claims = [...this.#claims].filter((claim) => !without.includes(claim))
    const claimed = new Set([...claims, ...without].flatMap((claim) => claim.ids))
    const others = this.#options.machines
      .list()
      .filter(isInMemory)
      .filter(({ id, taskId }) => !claimed.has(id) && (taskId === null || !claimed.has(taskId)))
    const diskMib = this.#options.freeDiskBytes() / 1024 ** 2 - limits.minFreeDiskMib
    return rest({ ...limits, diskMib }, [...claims, ...others], limits.expectedDiskMib)
  }

  shortage(wanted: readonly MachineSize[], room: Room): Shortage | undefined {
    const { machines, memoryMib, vcpus, diskMib } = rest(room, wanted, this.limits.expectedDiskMib)
    if (machines < 0) return { of: 'machines', words: plural(-machines, 'free machine') }
    if (memoryMib < 0) return { of: 'memory', words: amount(-memoryMib) }
    if (vcpus < 0) return { of: 'vcpus', words: plural(-vcpus, 'virtual processor') }
    if (diskMib < 0) return { of: 'disk', words: `${amount(-diskMib)} of free disk space` }
    return undefined
  }
}

/** What is left of a room when machines of these sizes are in it. */
function rest(room: Room, sizes: readonly MachineSize[], expectedDiskMib: number): Room {
  return {
    machines: room.machines - sizes.length,
    memoryMib: sizes.reduce((left, { memoryMib }) => left - memoryMib, room.memoryMib),
    vcpus: sizes.reduce((left, { vcpus }) => left - vcpus, room.vcpus),
    diskMib: room.diskMib - sizes.length * expectedDiskMib,
  }
}

function isInMemory({ userId, state }: MachineInfo): boolean {
  return userId !== NOBODY && state !== 'suspended' && state !== 'gone'
}

function amount(mib: number): string {
  return mib < GIB_IN_MIB ? `${Math.ceil(mib)} MiB` : `${Number((mib / GIB_IN_MIB).toFixed(1))} GiB`
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}
