import type { Leak } from '../contracts/server.ts'

/** Something of ours that nobody owns any more: whoever made it was killed, or could not remove it. */
export interface FoundLeak extends Omit<Leak, 'since'> {
  /** Removes it, and nothing else. */
  remove(): Promise<void>
}

/** Looks for leaks of one kind. It changes nothing, and what is being made or used right now is not among them. */
export type FindLeaks = () => Promise<FoundLeak[]>
