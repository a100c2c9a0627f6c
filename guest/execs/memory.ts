import { openSync, readSync, writeFileSync } from 'node:fs'
import { attempt } from '../log.ts'

const SCORE = '/proc/self/oom_score_adj'
const NEVER = '-1000'
const COUNT = '\noom_kill '

let spared = false
let statistics: number | undefined
const buffer = Buffer.allocUnsafe(16 * 1024)

/** How often the kernel's out-of-memory killer has struck since boot. Asked for at each exec: the file stays open. */
export function oomKills(): number {
  statistics ??= openSync('/proc/vmstat', 'r')
  const text = buffer.toString('latin1', 0, readSync(statistics, buffer, 0, buffer.length, 0))
  const at = text.indexOf(COUNT)
  return at < 0 ? 0 : Number.parseInt(text.slice(at + COUNT.length), 10)
}

/**
 * Makes the agent, without which nobody would learn of it, the last that the out-of-memory killer chooses. What the agent starts
 * itself is spared with it; what the host asks for is not (see `launcher.ts`).
 */
export function spareAgent(): void {
  attempt('out-of-memory score', () => {
    writeFileSync(SCORE, NEVER)
    spared = true
  })
}

/** Whether the agent, and all that inherits its score, is spared. */
export function agentIsSpared(): boolean {
  return spared
}
