import { availableParallelism, totalmem } from 'node:os'
import { VivariumError } from '../contracts/errors.ts'

/** The largest machine that may be asked for. */
export interface SizeLimits {
  memoryMib: number
  vcpus: number
}

/** Virtual processors beyond this many for each of the host's only wait for each other. */
const VCPUS_PER_CORE = 4

/** What this host can carry at most in a single machine. */
export function hostLimits(): SizeLimits {
  return { memoryMib: Math.floor(totalmem() / 1024 ** 2), vcpus: Math.max(8, availableParallelism() * VCPUS_PER_CORE) }
}

/** Throws `machine_too_large` for a machine that this host could never start. */
export function refuseTooLarge(wanted: SizeLimits, limits: SizeLimits): void {
  if (wanted.memoryMib > limits.memoryMib)
    throw new VivariumError(
      'machine_too_large',
      `A machine here can have at most ${limits.memoryMib} MiB of memory; ${wanted.memoryMib} MiB were asked for.`,
      { field: 'memoryMib' },
    )
  if (wanted.vcpus > limits.vcpus)
    throw new VivariumError(
      'machine_too_large',
      `A machine here can have at most ${limits.vcpus} virtual processors; ${wanted.vcpus} were asked for.`,
      { field: 'vcpus' },
    )
}
