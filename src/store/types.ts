/** The data folder as those know it whose writes must not be lost while its disk takes none. */
export interface Storage {
  /** Looks why nothing can be written at the moment: a sentence that says what to do, or undefined where all is well. */
  problem(): Promise<string | undefined>
  /** The same as it was last known, for those who can't wait. */
  readonly lastProblem: string | undefined
  /** Whether a write waits for the disk. */
  readonly holdsBack: boolean
  /**
   * Does `work`, and again, with growing pauses, for as long as it fails for a reason that may pass: a full disk, one that is
   * read-only, a folder that is away. Who awaits this is held back meanwhile; `work` must be of the kind that may be done twice.
   * Rejects with what `work` last rejected with, after `patienceMs`, or at once after `hurry`.
   */
  persist<Result>(work: () => Promise<Result>): Promise<Result>
  /** Calls `listener` when a problem has come or gone, and when writes begin or cease to wait; returns the unsubscribe function. */
  watch(listener: () => void): () => void
  /** There is no time left: nothing is tried again from now on. */
  hurry(): void
}
