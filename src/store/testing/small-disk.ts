import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Mounting takes root. */
export const canMount = process.getuid?.() === 0

/** A file system of its own that is small enough to be filled. Disposing removes it. */
export interface SmallDisk extends Disposable {
  path: string
  /** Leaves no byte free. */
  fill(): void
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
    fill() {
      const fd = openSync(ballast, 'a')
      try {
        for (;;) writeSync(fd, Buffer.alloc(4096))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
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
