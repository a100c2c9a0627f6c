import { readdirSync, readFileSync } from 'node:fs'

interface Process {
  pid: number
  parent: number
  group: number
  session: number
  /** Device number of its controlling terminal; 0 for none. */
  terminal: number
}

/** A process by /proc/PID/stat; undefined when it is gone or a zombie. */
function readProcess(pid: number): Process | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name in parentheses may hold anything; the fields behind its end are numbers (proc(5)).
    const [state, parent, group, session, terminal] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (state === 'Z' || state === 'X') return undefined
    const numbers = { parent: Number(parent), group: Number(group), session: Number(session) }
    return { pid, ...numbers, terminal: Number(terminal) }
  } catch {
    return undefined
  }
}

function hasVariable(pid: number, assignment: string): boolean {
  try {
    return `\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}`.includes(`\0${assignment}\0`)
  } catch {
    // Gone, or another user's.
    return false
  }
}

/** Living processes that belong to `leader`: by group, session, descent, or an environment variable. */
export function findProcesses(leader: number, assignment: string): number[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readProcess(Number(name)))
    .filter((process) => process !== undefined)
  const found = new Set<number>()
  for (const { pid, group, session } of all)
    if (group === leader || session === leader || hasVariable(pid, assignment)) found.add(pid)
  for (let before = -1; before !== found.size;) {
    before = found.size
    for (const { pid, parent } of all) if (found.has(parent)) found.add(pid)
  }
  return [...found]
}

/** More than builds, browsers and test suites need. */
const MAX_PROCESSES = 2048

/**
 * How many processes and threads one exec may have at once; no more than a quarter of what the kernel allows in all, which it derives from
 * the memory. A fork bomb then fills its own group, and the agent can still start what brings its machine's files out.
 */
export function maxProcesses(): number {
  const threads = Number(readFileSync('/proc/sys/kernel/threads-max', 'utf8'))
  return Math.min(MAX_PROCESSES, Math.floor(threads / 4))
}

/** The pseudo terminal that controls a process: null while there is none, undefined when the process is gone. */
export function terminalOf(pid: number): string | null | undefined {
  const process = readProcess(pid)
  if (process === undefined) return undefined
  // A minor number is the low 8 bits and, from bit 20 on, the rest (proc(5), `tty_nr`).
  const minor = (process.terminal & 0xff) | ((process.terminal >>> 12) & 0xfff00)
  return process.terminal === 0 ? null : `/dev/pts/${minor}`
}
