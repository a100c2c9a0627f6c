import { VivariumError } from '../contracts/errors.ts'
import type { TaskEvent } from '../contracts/event.ts'
import type { Hub, TaskStream } from './hub.ts'
import { endsTask } from './record.ts'
import type { EventStore } from './store.ts'

/** Records a reader takes at once: all that it holds in memory while it is slow. */
const PAGE = 64

/** What `EventLog.follow` returns. Each iteration is a reader of its own. */
export function follow(
  { hub, store }: { hub: Hub; store: EventStore },
  taskId: string,
  from: number,
  signal?: AbortSignal,
): AsyncIterable<TaskEvent> {
  return {
    [Symbol.asyncIterator]() {
      const left = new AbortController()
      const stop = signal === undefined ? left.signal : AbortSignal.any([signal, left.signal])
      const events = readHeld(hub, store, taskId, from, stop)
      return {
        next: () => events.next(),
        // A generator's own `return` waits for a `next` under way, and that may wait for an event that never comes.
        return: () => {
          left.abort()
          return events.return(undefined)
        },
      }
    },
  }
}

async function* readHeld(hub: Hub, store: EventStore, taskId: string, from: number, stop: AbortSignal) {
  using held = hub.hold(taskId)
  await held.stream.load()
  yield* readFrom(held.stream, store, from, stop)
}

async function* readFrom(stream: TaskStream, store: EventStore, from: number, stop: AbortSignal) {
  let next = from
  while (!stop.aborted && !stream.closed) {
    if (stream.finalSeq !== undefined && next > stream.finalSeq) return
    if (next > stream.lastSeq) {
      await stream.changed(stop)
      continue
    }
    const records = stream.recent(next, PAGE) ?? (await store.page(stream.taskId, next, PAGE))
    if (records.length === 0 && !stream.closed) {
      throw new VivariumError('storage_failed', `Events ${next} to ${stream.lastSeq} of ${stream.taskId} are missing.`)
    }
    for (const record of records) {
      if (stop.aborted || stream.closed) return
      const event = await store.event(stream.taskId, record)
      yield event
      if (endsTask(event)) return
      next = record.seq + 1
    }
  }
}
