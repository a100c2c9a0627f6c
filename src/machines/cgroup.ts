import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * The control group (v2) of one machine, so that all of its processes can be killed in one step. Hosts differ: v2 may be
 * missing, read-only or without `cgroup.kill` (before Linux 5.14), so each step is a help and none is relied on; a
 * machine is also found by its process and its uid.
 */
export interface MachineGroup {
  /** Moves a process, with all its threads, into the group. */
  add(pid: number): Promise<void>
  kill(): Promise<void>
  /** Removes the group; it must be empty of processes. */
  remove(): Promise<void>
}

/** Where cgroup v2 is mounted, from the text of /proc/self/mountinfo (proc(5): the type stands after the `-`). */
export function findCgroupMount(mountinfo: string): string | undefined {
  const line = mountinfo.split('\n').find((text) => text.split(' - ')[1]?.startsWith('cgroup2 '))
  return line?.split(' ')[4]
}

let mount: Promise<string | undefined> | undefined

/**
 * The group of machine `id`, without making it. Groups stand directly below the mount, as container engines put theirs:
 * machines outlive the service or session that the orchestrator itself belongs to.
 */
export async function machineGroup(id: string): Promise<MachineGroup> {
  mount ??= readFile('/proc/self/mountinfo', 'utf8').then(findCgroupMount)
  const root = await mount
  const path = root === undefined ? undefined : join(root, 'vivarium', id)
  const attempt = async (step: (path: string) => Promise<unknown>) => {
    if (path === undefined) return
    await step(path).catch(() => {}) // see MachineGroup: a help, not relied on
  }
  return {
    add: (pid) =>
      attempt(async (path) => {
        await mkdir(path, { recursive: true })
        await writeFile(join(path, 'cgroup.procs'), String(pid))
      }),
    kill: () => attempt((path) => writeFile(join(path, 'cgroup.kill'), '1', { flag: 'r+' })),
    remove: () => attempt(rmdir),
  }
}
