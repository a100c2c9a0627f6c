import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { findProcesses } from './processes.ts'

/** Finds every process that an exec started, also those that left its process group. */
export interface Tracker {
  /** The processes still there. `leader` is the first process. */
  list(leader: number): number[]
  /** Kills all at once where the kernel can; false: signal what `list` gives, until it gives nothing. */
  killAll(): boolean
  /** Frees what tracking holds, where no process is left. */
  dispose(): void
}

/** Membership in a cgroup v2 of its own: nothing a process does takes it out (but for root, who could do anything). */
export class CgroupTracker implements Tracker {
  readonly #folder: string

  /** `folder` is a cgroup v2, which the tracker owns from now on. */
  constructor(folder: string) {
    this.#folder = folder
  }

  list(): number[] {
    return readPids(this.#folder)
  }

  killAll(): boolean {
    const file = join(this.#folder, 'cgroup.kill')
    if (!existsSync(file)) return false
    writeFileSync(file, '1')
    return true
  }

  dispose(): void {
    void this.#remove()
  }

  /** Killed processes leave a group only when they are reaped; those that outlive the exec keep theirs. */
  async #remove(): Promise<void> {
    for (const waitMs of [0, 100, 1000, 10_000]) {
      await sleep(waitMs, undefined, { ref: false })
      try {
        return rmdirSync(this.#folder)
      } catch {
        // Not empty yet.
      }
    }
  }
}

/** Where cgroup v2 is mounted, or undefined. */
export function cgroupMount(): string | undefined {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n')
  return mounts.map((line) => line.split(' ')).find(([, , type]) => type === 'cgroup2')?.[1]
}

function readPids(folder: string): number[] {
  const own = readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number)
  const below = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => readPids(join(folder, entry.name)))
  return [...own, ...below]
}

/** Variable by which `ProcTracker` knows its processes again. */
export const EXEC_VARIABLE = 'VIVARIUM_EXEC'

/** Without cgroups: process group, session, descent, and a variable that daemons inherit unless they clear it. */
export class ProcTracker implements Tracker {
  readonly #mark: string

  constructor(id: string) {
    this.#mark = `${EXEC_VARIABLE}=${id}`
  }

  list(leader: number): number[] {
    return findProcesses(leader, this.#mark)
  }

  killAll(): boolean {
    return false
  }

  dispose(): void {
    // Nothing held.
  }
}
