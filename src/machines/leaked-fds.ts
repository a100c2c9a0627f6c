import { readdir, readFile } from 'node:fs/promises'

/** In /proc/PID/fdinfo, whose `flags` are octal. */
const O_CLOEXEC = 0o2000000

/**
 * Descriptors, in ascending order, that whoever started this program left open and that every child would get too, e.g. the pipe of a job runner or
 * the file of a lock. A VMM outlives us, and must not keep a runner waiting or a lock held.
 */
export async function leakedFds(): Promise<number[]> {
  const fds = (await readdir('/proc/self/fd')).map(Number).filter((fd) => fd > 2)
  const leaked = await Promise.all(
    fds.map(async (fd) => {
      const info = await readFile(`/proc/self/fdinfo/${fd}`, 'utf8').catch(() => '') // closed meanwhile
      const flags = /^flags:\s*([0-7]+)$/m.exec(info)?.[1]
      return flags !== undefined && (Number.parseInt(flags, 8) & O_CLOEXEC) === 0 ? fd : undefined
    }),
  )
  return leaked.filter((fd) => fd !== undefined).toSorted((a, b) => a - b)
}
