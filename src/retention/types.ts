import type { TaskPart } from '../contracts/removed.ts'

/** Takes finished tasks away, or parts of them, in steps that a crash may interrupt anywhere. All calls reject with `storage_failed`. */
export interface TaskRemoval {
  /**
   * Takes a part of a task, which says so from then on. False where the task is not final, or another that is not needs the part.
   * `setting` is what decided it.
   */
  take(taskId: string, part: TaskPart, setting: string): Promise<boolean>
  /** Forgets a task whole; false as with `take`, but for a task that is needed where `force` says so. */
  forget(taskId: string, options?: { force: boolean }): Promise<boolean>
  /** Ends removals that a crash interrupted. */
  finish(): Promise<void>
}

/** What a pass has removed. */
export interface Freed {
  tasks: number
  files: number
  events: number
  state: number
  machines: number
  bytes: number
}

export interface Retention extends Disposable {
  /** Removes what is due now; resolves with what it was. Passes never overlap. */
  run(): Promise<Freed>
  /** What all passes have removed since the start. */
  readonly freed: Freed
}
