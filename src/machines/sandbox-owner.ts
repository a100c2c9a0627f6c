import { readFile, realpath } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { SANDBOX_RUN_DIR } from './qemu/sandbox.ts'

/** A folder as the kernel knows it, in whatever mount namespace: the device it lies on, and its path there. */
interface Place {
  device: string
  path: string
}

interface Mount extends Place {
  point: string
}

/**
 * Whether a process lives in the sandbox of the machine with this run folder. That is what the kernel says of its mounts, which no
 * name or argument can counterfeit, and which also tells machines of other orchestrators, containers and journals apart.
 * Undefined where it lives in no sandbox, or where nothing is to be learnt about it.
 */
export async function livesIn(pid: number, runDir: string): Promise<boolean | undefined> {
  const place = await sandboxPlace(pid)
  if (place === undefined) return undefined
  const ours = placeOf(await resolved(runDir), parseMounts(await readFile('/proc/self/mountinfo', 'utf8')))
  return place.device === ours?.device && place.path === ours.path
}

/** The run folder that a process's sandbox shows it. */
async function sandboxPlace(pid: number): Promise<Place | undefined> {
  // It has ended meanwhile, or is not ours to look into.
  const mountinfo = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '')
  const mount = parseMounts(mountinfo).find(({ point }) => point === SANDBOX_RUN_DIR)
  return mount && { device: mount.device, path: mount.path.replace(/\/\/deleted$/, '') }
}

/** The mounts in the text of a /proc/PID/mountinfo (proc_pid_mountinfo(5)); spaces and their kind are written in octal. */
export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, , device = '', path = '', point = ''] = line.split(' ').map(unescape)
      return { device, path, point }
    })
}

/** Where an absolute path without links lies, by the mounts of its namespace: the innermost counts, of two at one point the later. */
export function placeOf(path: string, mounts: readonly Mount[]): Place | undefined {
  let inner: Mount | undefined
  for (const mount of mounts) {
    const holds = path === mount.point || path.startsWith(mount.point.replace(/\/?$/, '/'))
    if (holds && mount.point.length >= (inner?.point.length ?? 0)) inner = mount
  }
  return inner && { device: inner.device, path: join(inner.path, relative(inner.point, path)) }
}

/** Without links above a run folder, which may itself be gone. */
async function resolved(runDir: string): Promise<string> {
  const above = await realpath(dirname(runDir)).catch(() => dirname(runDir))
  return join(above, basename(runDir))
}

function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
