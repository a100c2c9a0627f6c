import { VivariumError } from '../contracts/errors.ts'
import type { NewEvent, TaskEvent } from '../contracts/event.ts'
import { isFinal } from '../contracts/task.ts'
import type { EventsTable } from '../store/tables.ts'

/** An event as the log and the hub's memory keep it: text, so that its size is known and nobody can change it. */
export type EventRecord = Omit<EventsTable, 'taskId'>

/** An event on its way into the log: everything but its place. */
export interface EncodedEvent {
  at: string
  type: string
  body: string
  /** Size of `body` in UTF-8. */
  bytes: number
  isFinal: boolean
}

/**
 * Throws `guest_misbehaved` for what JSON can't write: from a guest that is a value nested thousands of levels deep (V8 parses
 * any depth, but can't write every value so deep), which no agent of good will prints.
 */
export function encodeEvent(event: NewEvent, at: string): EncodedEvent {
  const { type, ...fields } = event
  try {
    const body = JSON.stringify(fields)
    return { at, type, body, bytes: Buffer.byteLength(body), isFinal: endsTask(event) }
  } catch (error) {
    throw new VivariumError('guest_misbehaved', `An event of type ${type} can't be stored: it is nested too deeply.`, {
      cause: error,
    })
  }
}

/** The event of a record whose body (from the record or from beside the log) is given. */
export function decodeEvent(taskId: string, record: EventRecord, body: string): TaskEvent {
  const { seq, at, type } = record
  // Written by `encodeEvent` from a typed event; checking it again on every read would cost more than it could find.
  return { seq, taskId, at, type, ...(JSON.parse(body) as object) } as TaskEvent
}

/** The JSON text of the same event, as `JSON.stringify` would write it: what readers are sent, without parsing what is JSON already. */
export function eventJson(taskId: string, { seq, at, type }: EventRecord, body: string): string {
  const envelope = JSON.stringify({ seq, taskId, at, type })
  return body === '{}' ? envelope : `${envelope.slice(0, -1)},${body.slice(1)}`
}

/** Whether nothing of the task follows this event. */
export function endsTask(event: NewEvent | TaskEvent): boolean {
  return event.type === 'status' && isFinal(event.status)
}
