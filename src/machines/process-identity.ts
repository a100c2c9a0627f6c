import { readdir, readFile, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ProcessIdentity } from './types.ts'

/** How often a process that is not our child is looked at: there is no other way to hear of its end. */
const POLL_MS = 100

/** What /proc says of a process. */
export interface ProcessEntry extends ProcessIdentity {
  parent: number
  /** It has ended, and its parent has not asked how yet. */
  zombie: boolean
}

/** A /proc/PID/stat line (proc_pid_stat(5)). The name in brackets may hold spaces and brackets itself. */
export function parseStat(line: string): ProcessEntry | undefined {
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ')
  const [pid, parent, startTime] = [Number.parseInt(line, 10), Number(fields[1]), Number(fields[19])]
  if (![pid, parent, startTime].every(Number.isSafeInteger)) return undefined
  return { pid, parent, startTime, zombie: fields[0] === 'Z' || fields[0] === 'X' }
}

async function readEntry(pid: number): Promise<ProcessEntry | undefined> {
  try {
    return parseStat(await readFile(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return undefined // no such process (ENOENT, or ESRCH when it ended while we read)
  }
}

/** The identity of a running process, or undefined when there is none of that pid. A zombie has ended. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const entry = await readEntry(pid)
  return entry === undefined || entry.zombie ? undefined : { pid, startTime: entry.startTime }
}

/** Whether this very process still runs: the same pid with another start time is somebody else. */
export async function isRunning(identity: ProcessIdentity): Promise<boolean> {
  return (await identify(identity.pid))?.startTime === identity.startTime
}

/** Resolves once the process is gone; rejects when `signal` aborts first. */
export async function untilGone(identity: ProcessIdentity, signal?: AbortSignal): Promise<void> {
  while (await isRunning(identity)) await sleep(POLL_MS, undefined, { ref: false, ...(signal && { signal }) })
}

/** Sends SIGKILL to the process if it is still the same one. */
export async function killProcess(identity: ProcessIdentity): Promise<void> {
  if (!(await isRunning(identity))) return
  try {
    process.kill(identity.pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Every process, zombies included, whose effective user is `uid`. */
export async function processesOf(uid: number): Promise<ProcessEntry[]> {
  return processesWhere(async (folder) => (await stat(folder)).uid === uid)
}

/** Every process that has each of these among its arguments, whole. */
export function processesNamed(...names: string[]): Promise<ProcessEntry[]> {
  return processesWith((args) => names.every((name) => args.includes(name)))
}

/** Every process whose arguments, the program's name first, `match`. */
export async function processesWith(
  match: (args: readonly string[]) => boolean,
): Promise<(ProcessEntry & { args: readonly string[] })[]> {
  const found = new Map<string, readonly string[]>()
  const entries = await processesWhere(async (folder) => {
    const args = (await readFile(`${folder}/cmdline`, 'utf8')).split('\0')
    if (!match(args)) return false
    found.set(folder, args)
    return true
  })
  return entries.map((entry) => ({ ...entry, args: found.get(`/proc/${entry.pid}`) ?? [] }))
}

async function processesWhere(matches: (folder: string) => Promise<boolean>): Promise<ProcessEntry[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(
    pids.map(async (pid) => {
      const matched = await matches(`/proc/${pid}`).catch(() => false) // it ended meanwhile
      return matched ? readEntry(Number(pid)) : undefined
    }),
  )
  return found.filter((entry) => entry !== undefined)
}
