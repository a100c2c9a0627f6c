import { availableParallelism, totalmem } from 'node:os'
import { VivariumError } from '../contracts/errors.ts'
import type { CapacityLimits, MachineSize } from './types.ts'

const MIB = 1024 ** 2
const GIB_IN_MIB = 1024

/** Of the file system that the data folder is on, this much stays free by default, within these bounds. */
const DISK_RESERVE = { share: 0.05, leastMib: GIB_IN_MIB, mostMib: 16 * GIB_IN_MIB }

/** The part of the configuration that says how much machines may take; zero derives a limit from the host. */
interface CapacityConfig {
  totalMemoryMib: number
  vcpusPerCore: number
  maxMachines: number
  minFreeDiskMib: number
  expectedDiskMib: number
}

/** What this process may use: a container may have less memory than its host. */
function thisHost(): { memoryBytes: number; cores: number } {
  const limit = process.constrainedMemory()
  const memoryBytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem()
  return { memoryBytes, cores: availableParallelism() }
}

/**
 * Resolves what all machines together may take on a host: by default three quarters of its memory, four virtual processors and two machines a
 * core, and of the data folder's disk (`diskBytes`, its whole size) all but a twentieth.
 */
export function capacityLimits(config: CapacityConfig, diskBytes: number, host = thisHost()): CapacityLimits {
  const hostMib = Math.floor(host.memoryBytes / MIB)
  const memoryMib = config.totalMemoryMib || Math.floor(hostMib * 0.75)
  const vcpus = Math.max(1, Math.floor(host.cores * config.vcpusPerCore))
  const { share, leastMib, mostMib } = DISK_RESERVE
  return {
    memoryMib,
    vcpus,
    machines: config.maxMachines || Math.max(2, host.cores * 2),
    // Memory may be promised to several machines beyond what there is, but not to a single one.
    largest: { memoryMib: Math.min(memoryMib, hostMib), vcpus },
    minFreeDiskMib:
      config.minFreeDiskMib || Math.floor(Math.min(mostMib, Math.max(leastMib, (diskBytes / MIB) * share))),
    expectedDiskMib: config.expectedDiskMib,
  }
}

/** Throws `machine_too_large` for a machine that could never start here. */
export function refuseTooLarge(wanted: MachineSize, largest: MachineSize): void {
  if (wanted.memoryMib > largest.memoryMib)
    throw new VivariumError(
      'machine_too_large',
      `A machine here can have at most ${largest.memoryMib} MiB of memory (machines.totalMemoryMib, and what the host has); ${wanted.memoryMib} MiB were asked for.`,
      { field: 'memoryMib' },
    )
  if (wanted.vcpus > largest.vcpus)
    throw new VivariumError(
      'machine_too_large',
      `A machine here can have at most ${largest.vcpus} virtual processors (machines.vcpusPerCore for each of the host's cores); ${wanted.vcpus} were asked for.`,
      { field: 'vcpus' },
    )
}
