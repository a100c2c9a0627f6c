import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

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
 * The groups of one orchestrator's machines, by the folder of their run folders. They stand directly below the mount, as container engines
 * put theirs: machines outlive the service or session that the orchestrator itself belongs to.
 */
async function groupsOf(runDir: string): Promise<string | undefined> {
  mount ??= readFile('/proc/self/mountinfo', 'utf8').then(findCgroupMount)
  const root = await mount
  return root === undefined ? undefined : join(root, 'vivarium', basename(runDir))
}

/** The group of the machine with this run folder, without making it. */
export async function machineGroup(runDir: string): Promise<MachineGroup> {
  const groups = await groupsOf(dirname(runDir))
  const path = groups === undefined ? undefined : join(groups, basename(runDir))
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
    async remove() {
      await attempt(rmdir)
      await attempt((path) => rmdir(dirname(path))) // the last one's
    },
  }
}

/** An empty group, by the name of its machine. */
export interface EmptyGroup {
  id: string
  path: string
}

/** Groups of an orchestrator in which no process is. */
export async function emptyGroups(runDir: string): Promise<EmptyGroup[]> {
  const groups = await groupsOf(runDir)
  if (groups === undefined) return []
  const names = await readdir(groups, { withFileTypes: true }).catch(() => []) // no machine was started yet
  const found = await Promise.all(
    names
      .filter((entry) => entry.isDirectory())
      .map(async ({ name: id }) => {
        const path = join(groups, id)
        const processes = await readFile(join(path, 'cgroup.procs'), 'utf8').catch(() => undefined)
        return processes === '' ? { id, path } : undefined
      }),
  )
  return found.filter((group) => group !== undefined)
}
