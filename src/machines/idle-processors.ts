import { cpus } from 'node:os'

/**
 * Tells, each time it is asked, what share of all processors' time since the last time was idle: 0 to 1. Asked twice within one tick of the
 * kernel's clock, it answers 1.
 */
export function idleProcessors(read: typeof cpus = cpus): () => number {
  let before = sum(read)
  return () => {
    const now = sum(read)
    const total = now.total - before.total
    const share = total > 0 ? (now.idle - before.idle) / total : 1
    before = now
    return share
  }
}

/** Milliseconds since the host's start, of all processors together. */
function sum(read: typeof cpus): { idle: number; total: number } {
  const times = read().map((cpu) => cpu.times)
  const idle = times.reduce((all, each) => all + each.idle, 0)
  const busy = times.reduce((all, { user, nice, sys, irq }) => all + user + nice + sys + irq, 0)
  return { idle, total: idle + busy }
}
