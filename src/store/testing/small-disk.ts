import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, statSync, truncateSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Mounting takes root. */
export const canMount = process.getuid?.() === 0

/** A file system of its own that is small enough to be filled. Disposing removes it. */
export interface SmallDisk extends Disposable {
  path: string
  /** Leaves no byte free, or so many bytes. */
  fill(leaving?: number): void
  makeRoom(): void
}

/** At an empty folder of the caller's, or at one of its own. */
export function mountSmallDisk(options: { kib: number; readOnly?: boolean; path?: string }): SmallDisk {
  const path = options.path ?? mkdtempSync(join(tmpdir(), 'vivarium-disk-'))
  const flags = `size=${options.kib}k${options.readOnly === true ? ',ro' : ''}`
  execFileSync('mount', ['-t', 'tmpfs', '-o', flags, 'tmpfs', path])
  const ballast = join(path, 'ballast')
  return {
    path,
    fill(leaving = 0) {
      const fd = openSync(ballast, 'a')
      try {
        for (;;) writeSync(fd, Buffer.alloc(4096))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        truncateSync(ballast, Math.max(0, statSync(ballast).size - leaving))
      } finally {
        closeSync(fd)
      }
    },
    makeRoom: () => rmSync(ballast),
    [Symbol.dispose]() {
      execFileSync('umount', [path])
      rmSync(path, { recursive: true })
    },
  }
}
