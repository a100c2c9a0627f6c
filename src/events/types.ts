import type { NewEvent, TaskEvent } from '../contracts/event.ts'

/**
 * The append-only log of a task's events, the truth about what happened. An event is stored before anyone sees it.
 */
export interface EventLog extends AsyncDisposable {
  /**
   * Appends events of one task in order; resolves with the seq of the last one when they are durable (group commit:
   * appends of many tasks within a few milliseconds share one transaction). Rejects with `storage_failed`.
   */
  append(taskId: string, events: NewEvent[]): Promise<number>
  /** Stored events from `from` (inclusive) on, at most `limit`, oldest first. */
  read(taskId: string, from: number, limit: number): Promise<TaskEvent[]>
  /**
   * All events from `from` on: history, then live, each exactly once, in order; ends after the task's final `status` event.
   * Never holds a task back: a reader that falls behind the hub's memory reads the log instead.
   */
  follow(taskId: string, from: number, signal?: AbortSignal): AsyncIterable<TaskEvent>
  /** Forgets all events of a task. */
  remove(taskId: string): Promise<void>
}
