import { readdir, readFile, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ProcessIdentity } from './types.ts'

/** How often a process that is not our child is looked at: there is no other way to hear of its end. */
const POLL_MS = 100

/** State and start time out of a /proc/PID/stat line. The name in brackets may hold spaces and brackets itself. */
export function parseStat(line: string): { state: string; startTime: number } | undefined {
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ')
  const [state, startTime] = [fields[0], Number(fields[19])]
  return state !== undefined && state !== '' && Number.isSafeInteger(startTime) ? { state, startTime } : undefined
}

/** The identity of a running process, or undefined when there is none of that pid. A zombie has ended. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  let line: string
  try {
    line = await readFile(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined // no such process (ENOENT, or ESRCH when it ended while we read)
  }
  const parsed = parseStat(line)
  return parsed === undefined || 'ZX'.includes(parsed.state) ? undefined : { pid, startTime: parsed.startTime }
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

/** Every running process whose effective user is `uid`. */
export async function processesOf(uid: number): Promise<ProcessIdentity[]> {
  return processesWhere(async (folder) => (await stat(folder)).uid === uid)
}

/** Every running process of which one whole argument is `name`. */
export async function processesNamed(name: string): Promise<ProcessIdentity[]> {
  return processesWhere(async (folder) => (await readFile(`${folder}/cmdline`, 'utf8')).split('\0').includes(name))
}

async function processesWhere(matches: (folder: string) => Promise<boolean>): Promise<ProcessIdentity[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(
    pids.map(async (pid) => {
      const matched = await matches(`/proc/${pid}`).catch(() => false) // it ended meanwhile
      return matched ? identify(Number(pid)) : undefined
    }),
  )
  return found.filter((identity) => identity !== undefined)
}
