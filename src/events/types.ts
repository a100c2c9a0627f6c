import type { NewEvent, TaskEvent } from '../contracts/event.ts'

/** An event as it is sent to readers. */
export interface EventJson {
  seq: number
  /** The event as JSON in UTF-8, encoded once for all who follow the task: not to be changed. */
  json: Buffer
}
export type UsageEvent = Extract<TaskEvent, { type: 'usage' }>
export type StatusEvent = Extract<TaskEvent, { type: 'status' }>

/** How far the source of a task's events has been read: any plain data. Never changed once it was given away. */
export type Checkpoint = object

/**
 * The append-only log of a task's events, the truth about what happened. An event is stored before anyone sees it.
 */
export interface EventLog extends AsyncDisposable {
  /**
   * Appends events of one task in order; resolves with the seq of the last one when they are durable (group commit:
   * appends of many tasks within a few milliseconds share one transaction). Rejects with `storage_failed`, and with
   * `guest_misbehaved` when an event can't be written as JSON; then none of `events` is in the log. After its final `status`
   * event a task's log takes no more (`conflict`).
   *
   * Calls keep their order also when they are not awaited. Awaiting is what holds a writer back when the disk is slow:
   * the log takes what it is given, so what waits in memory is what its callers have not awaited.
   * Never await an append inside a database transaction of your own: both need the one connection.
   *
   * `checkpoint` says how far the source of these events has been read, with them: whoever goes on there after a crash loses no
   * event and gets none twice. It is stored in the same transaction, takes the place of the one before, and goes with the task's last event.
   */
  append(taskId: string, events: NewEvent[], checkpoint?: Checkpoint): Promise<number>
  /** The newest checkpoint of a task; undefined where there is none. */
  checkpoint(taskId: string): Promise<Checkpoint | undefined>
  /**
   * Stored events from `from` (inclusive) on, at most `limit`, oldest first. May give fewer than there are, so that an
   * answer stays within some 16 MiB; it gives at least one if there is one.
   */
  read(taskId: string, from: number, limit: number): Promise<TaskEvent[]>
  /**
   * All events from `from` on: history, then live, each exactly once, in order; ends after the task's final `status` event,
   * at once where `from` lies beyond it, and also when `signal` aborts or the task is removed, and with what there is when
   * the log is closed.
   * Never holds a task back: a reader that falls behind the hub's memory reads the log instead.
   */
  follow(taskId: string, from: number, signal?: AbortSignal): AsyncIterable<TaskEvent>
  /** The same, for who only passes events on. */
  followJson(taskId: string, from: number, signal?: AbortSignal): AsyncIterable<EventJson>
  /** The `usage` events of a task, in order. */
  usage(taskId: string): Promise<UsageEvent[]>
  /** The task's final `status` event; undefined where there is none yet. */
  ending(taskId: string): Promise<StatusEvent | undefined>
  /** Forgets all events of a task. */
  remove(taskId: string): Promise<void>
}

/** One run's way into the log: partial text is gathered for a moment, everything else is appended at once. */
export interface EventWriter extends AsyncDisposable {
  /**
   * Takes events in order. Resolves when they are durable, or, for `delta`s, when they may be followed by more.
   * Rejects like `EventLog.append`, also for deltas taken before. `checkpoint` is stored with the last of `events`, or with what comes next, or by `flush`.
   */
  write(events: NewEvent[], checkpoint?: Checkpoint): Promise<void>
  /** Resolves when everything taken so far is durable. */
  flush(): Promise<void>
}

/** `onStored` is called with each checkpoint that has become durable; one that another overtakes is left out. */
export type OpenEventWriter = (taskId: string, onStored: (checkpoint: Checkpoint) => void) => EventWriter
