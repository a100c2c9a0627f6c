import { existsSync } from 'node:fs'
import { access, constants, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Config } from '../config/schema.ts'
import type { Check } from './types.ts'

const MIB = 1024 ** 2
const GIB = 1024 ** 3

/** A task needs about this much for its image, scratch and results. */
const COMFORTABLE_BYTES = 10 * GIB

/** Whether the data folder takes what is written, and for how long it may go on to. */
export async function checkDisk({ home, storage }: Pick<Config, 'home' | 'storage'>): Promise<Check> {
  const folder = nearestExisting(home)
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  const detail = `${(free / GIB).toFixed(1)} GiB free at ${home}`
  const refusal = await access(folder, constants.W_OK).catch((error: Error) => error)
  if (refusal instanceof Error)
    return { name: 'disk', status: 'missing', detail: `${home} can't be written: ${refusal.message}`, fix: null }
  if (free < storage.minFreeMib * MIB) {
    const needed = `${storage.minFreeMib} MiB are needed (storage.minFreeMib): nothing new is taken until there is room`
    return { name: 'disk', status: 'missing', detail: `${detail}; ${needed}`, fix: null }
  }
  return { name: 'disk', status: free < COMFORTABLE_BYTES ? 'warning' : 'ok', detail, fix: null }
}

/** The file system of a folder that may not exist yet is that of its nearest ancestor. */
function nearestExisting(path: string): string {
  return existsSync(path) || path === dirname(path) ? path : nearestExisting(dirname(path))
}
