/** Something finished that could be removed, as old and as large as it is. */
export interface Candidate {
  id: string
  /** ISO 8601. */
  finishedAt: string
  bytes: number
}

export interface Limit {
  /** Older ones are due; 0 keeps them for ever. */
  days: number
  /** Together they may take so much; the oldest are due beyond it. 0 is no bound. */
  bytes: number
}

export interface Due extends Candidate {
  why: 'age' | 'size'
}

const DAY_MS = 24 * 60 * 60_000

/** What of `candidates`, oldest first, is due at `now`. */
export function due(candidates: readonly Candidate[], { days, bytes }: Limit, now: Date): Due[] {
  const before = days === 0 ? '' : new Date(now.getTime() - days * DAY_MS).toISOString()
  let excess = bytes === 0 ? 0 : candidates.reduce((sum, candidate) => sum + candidate.bytes, 0) - bytes
  const list: Due[] = []
  for (const candidate of candidates) {
    const isOld = candidate.finishedAt < before
    if (!isOld && excess <= 0) break
    list.push({ ...candidate, why: isOld ? 'age' : 'size' })
    excess -= candidate.bytes
  }
  return list
}
