import { join } from 'node:path'
import { execa } from 'execa'
import { VivariumError } from '../../contracts/errors.ts'

/**
 * Makes a machine's scratch disk: a qcow2 over the empty formatted one, as large, taking space only for what the guest
 * writes. Returns its path.
 */
export async function createScratchDisk(diskDir: string, base: string, signal?: AbortSignal): Promise<string> {
  const path = join(diskDir, 'scratch.qcow2')
  try {
    await execa('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', base, path], {
      ...(signal && { cancelSignal: signal }),
    })
  } catch (cause) {
    signal?.throwIfAborted()
    throw new VivariumError('engine_failed', `The scratch disk can't be made: ${(cause as Error).message}`, { cause })
  }
  return path
}
