import { link, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { VivariumError } from '../../contracts/errors.ts'
import type { SavedMachine } from '../types.ts'
import { FILES } from './disk-folder.ts'
import { createQcow2 } from './qcow2.ts'

/** What the guest's scratch disk is made of, from the bottom up: paths. */
export interface ScratchLayers {
  /** The empty formatted disk that all machines share. */
  base: string
  /** What a saved machine had written, for those that start from it; never written again. */
  layer: string | undefined
  /** What this machine writes. */
  scratch: string
}

/**
 * Makes a machine's scratch disk: a qcow2 over the empty formatted one, as large, taking space only for what the guest
 * writes. Returns its path.
 */
export async function createScratchDisk(diskDir: string, base: string): Promise<string> {
  const path = join(diskDir, FILES.scratch)
  await orEngineFailed(stat(base).then(({ size }) => createQcow2(path, size)))
  return path
}

/** Gives the machine of `diskDir` the disk of a saved one, as `from.disk` says. Rejects with `engine_failed`. */
export async function takeScratchDisk(diskDir: string, base: string, from: SavedMachine): Promise<ScratchLayers> {
  const [saved, savedLayer] = [join(from.folder, FILES.scratch), join(from.folder, FILES.layer)]
  const [scratch, layer] = [join(diskDir, FILES.scratch), join(diskDir, FILES.layer)]
  const layered = await exists(savedLayer)
  switch (from.disk) {
    case 'own':
      break
    case 'over':
      if (layered)
        throw new VivariumError(
          'engine_failed',
          `The disk in ${from.folder} has a layer already; it can only be copied.`,
        )
      await orEngineFailed(linkOrCopy(saved, layer))
      await createScratchDisk(diskDir, base)
      return { base, layer, scratch }
    case 'copy':
      await orEngineFailed(copySparse(saved, scratch))
      if (layered) await orEngineFailed(linkOrCopy(savedLayer, layer))
  }
  return { base, layer: layered ? layer : undefined, scratch }
}

/** Copies a file, sharing its blocks where the file system can and leaving out holes. Fails if `to` exists. */
export async function copySparse(from: string, to: string): Promise<void> {
  await execa('cp', ['--reflink=auto', '--sparse=always', '--no-clobber', '--', from, to])
}

/** A second name for a file that nobody writes any more; a copy where there can be none: another file system, or too many names. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (!['EXDEV', 'EMLINK', 'EPERM', 'ENOTSUP'].includes(code)) throw error
    await copySparse(from, to)
  }
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

async function orEngineFailed<T>(made: Promise<T>): Promise<T> {
  return made.catch((cause: unknown) => {
    throw new VivariumError('engine_failed', `The scratch disk can't be made: ${(cause as Error).message}`, { cause })
  })
}
