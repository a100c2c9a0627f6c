import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { VivariumError } from '../../contracts/errors.ts'
import type { Qmp } from './qmp.ts'

/** Fields of /proc/PID/stat count time in hundredths of a second on every Linux for x86 (USER_HZ). */
const TICK_MS = 10
const WINDOW_MS = 250
/** The timers of an idle guest take a few per cent of a core under software emulation. */
const IDLE_SHARE = 0.12

const Chardevs = z.array(z.object({ label: z.string(), 'frontend-open': z.boolean() }))

/**
 * Resolves when the guest's agent waits at both of its streams and QEMU has used next to no processor time for a moment.
 * Rejects with `engine_failed` after `deadlineMs`, or with the reason of `signal`.
 */
export async function untilSettled(qmp: Qmp, pid: number, deadlineMs: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + deadlineMs
  let share = 1
  for (let before = await cpuTimeMs(pid); performance.now() < deadline;) {
    const [open] = await Promise.all([agentWaits(qmp), sleep(WINDOW_MS, undefined, { signal })])
    const after = await cpuTimeMs(pid)
    share = (after - before) / WINDOW_MS
    if (open && share <= IDLE_SHARE) return
    before = after
  }
  const busy = `its processors are ${Math.round(share * 100)} % busy`
  throw new VivariumError('engine_failed', `The guest did not come to rest within ${deadlineMs / 1000} s: ${busy}.`)
}

/** Whether the guest has both ports of the link open. */
async function agentWaits(qmp: Qmp): Promise<boolean> {
  const chardevs = Chardevs.safeParse(await qmp.execute('query-chardev')).data ?? []
  const isOpen = (name: 'control' | 'egress') =>
    chardevs.some((chardev) => chardev.label === name && chardev['frontend-open'])
  return isOpen('control') && isOpen('egress')
}

/** Processor time of a process and all of its threads (proc_pid_stat(5): utime and stime). */
async function cpuTimeMs(pid: number): Promise<number> {
  const line = await readFile(`/proc/${pid}/stat`, 'utf8').catch((cause: unknown) => {
    throw new VivariumError('engine_failed', 'QEMU ended before its guest came to rest.', { cause })
  })
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS
}
