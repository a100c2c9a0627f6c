import { statfsSync } from 'node:fs'

/** The file system that a folder is on: its whole size, and what ordinary processes may still write, in bytes. Throws where the folder is gone. */
export function diskSpace(folder: string): { totalBytes: number; freeBytes: number } {
  const { bsize, blocks, bavail } = statfsSync(folder)
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize }
}
