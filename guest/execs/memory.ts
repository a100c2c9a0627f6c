import { readFileSync, writeFileSync } from 'node:fs'
import { attempt } from '../log.ts'

const SCORE = '/proc/self/oom_score_adj'
const NEVER = '-1000'
const ORDINARY = '0'

let spared = false

/** How often the kernel's out-of-memory killer has struck since boot. */
export function oomKills(): number {
  return Number(/^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'latin1'))?.[1] ?? 0)
}

/** Makes the agent, without which nobody would learn of it, the last that the out-of-memory killer chooses. */
export function spareAgent(): void {
  attempt('out-of-memory score', () => {
    writeFileSync(SCORE, NEVER)
    spared = true
  })
}

/** Calls `start` such that what it forks has the ordinary score instead of the agent's. */
export function forkUnspared<T>(start: () => T): T {
  if (!spared) return start()
  writeFileSync(SCORE, ORDINARY)
  try {
    return start()
  } finally {
    attempt('out-of-memory score', () => writeFileSync(SCORE, NEVER))
  }
}
