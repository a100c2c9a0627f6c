import { VivariumError } from '../../contracts/errors.ts'
import { diskSpace } from '../../files/disk-space.ts'

const MIB = 1024 ** 2
/** For a template's devices, and for what its boot writes to its disk. */
const BESIDE_MEMORY_MIB = 64
/** A disk with less is full: nothing can be built there. */
const FULL_BYTES = MIB

/**
 * Throws `storage_failed` where the disk of `folder` could become full under a template: all of its machine's memory may end in a file. A VMM that
 * finds no room for a page of such a file is killed by the kernel, which says nothing of the disk.
 */
export function requireRoom(folder: string, memoryMib: number): void {
  const neededMib = memoryMib + BESIDE_MEMORY_MIB
  const freeMib = Math.floor(diskSpace(folder).freeBytes / MIB)
  if (freeMib >= neededMib) return
  const message = `A template of ${memoryMib} MiB of memory may take ${neededMib} MiB, and ${freeMib} MiB are free on the disk of ${folder}.`
  throw new VivariumError('storage_failed', `${message} Make room there, or move the cache (VIVARIUM_CACHE).`)
}

/** What a build failed for: a full disk, where `folder` is on one, whatever that looked like to those who met it. */
export function reasonOf(error: unknown, folder: string): unknown {
  if (diskSpace(folder).freeBytes >= FULL_BYTES) return error
  const message = `The disk of ${folder} is full. Make room there, or move the cache (VIVARIUM_CACHE).`
  return new VivariumError('storage_failed', message, { cause: error })
}
