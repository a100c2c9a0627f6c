import { randomInt } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { VivariumError } from '../contracts/errors.ts'
import { processesOf } from './process-identity.ts'

/**
 * Uids for VMM processes, one for each machine. The range lies in what systemd's list of uids leaves unused
 * (0x70000000 to 0x7FFDFFFF), outside the ranges that useradd, subuid, systemd-nspawn and SSSD give out by default.
 */
export const UID_RANGE = { first: 2_000_500_000, count: 10_000 } as const

/** Whether `uid` is one that only machines are given. */
export function isLeasable(uid: number): boolean {
  return uid >= UID_RANGE.first && uid < UID_RANGE.first + UID_RANGE.count
}

/** Whether `uid` exists in the user namespace that /proc/self/uid_map describes (inside, outside, length on each line). */
export function isMapped(uidMap: string, uid: number): boolean {
  return uidMap.split('\n').some((line) => {
    const [inside = Number.NaN, , length = 0] = line.trim().split(/\s+/).map(Number)
    return uid >= inside && uid < inside + length
  })
}

/** Whether VMMs can be given uids of their own: as root, unless in a container whose user namespace lacks the range. */
export async function canLeaseUids(): Promise<boolean> {
  return process.getuid?.() === 0 && isMapped(await readFile('/proc/self/uid_map', 'utf8'), UID_RANGE.first)
}

/**
 * A uid that is not in `taken` and owns no process. Starts at a random place, so that orchestrators with different
 * journals on one host don't try the same ones. Rejects with `engine_failed` when all are in use.
 */
export async function leaseUid(taken: ReadonlySet<number>): Promise<number> {
  const start = randomInt(UID_RANGE.count)
  for (let step = 0; step < UID_RANGE.count; step++) {
    const uid = UID_RANGE.first + ((start + step) % UID_RANGE.count)
    if (!taken.has(uid) && (await processesOf(uid)).length === 0) return uid
  }
  throw new VivariumError('engine_failed', 'Every user id for machines is in use; destroy some machines.')
}
