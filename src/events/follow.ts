import { VivariumError } from '../contracts/errors.ts'
import type { Hub } from './hub.ts'
import type { EventRecord } from './record.ts'
import type { EventStore } from './store.ts'

/** What a reader takes at once, whichever comes first: all that it holds in memory while it is slow. */
const PAGE_EVENTS = 64
const PAGE_BYTES = 256 * 1024

/** Who follows which task, from which seq on. */
export interface Following {
  hub: Hub
  store: EventStore
  taskId: string
  from: number
  signal: AbortSignal | undefined
}

/** What `EventLog.follow` returns: of each record what `toItem` makes of it. Each iteration is a reader of its own. */
export function follow<Item>(
  following: Following,
  toItem: (record: EventRecord) => Promise<Item>,
): AsyncIterable<Item, undefined> {
  return {
    [Symbol.asyncIterator]() {
      const left = new AbortController()
      const { signal } = following
      const stop = signal === undefined ? left.signal : AbortSignal.any([signal, left.signal])
      const items = readHeld(following, toItem, stop)
      return {
        next: () => items.next(),
        // A generator's own `return` waits for a `next` under way, and that may wait for an event that never comes.
        return: () => {
          left.abort()
          return items.return(undefined)
        },
      }
    },
  }
}

async function* readHeld<Item>(
  { hub, store, taskId, from }: Following,
  toItem: (record: EventRecord) => Promise<Item>,
  stop: AbortSignal,
): AsyncGenerator<Item, undefined> {
  using held = hub.hold(taskId)
  const { stream } = held
  await stream.load()
  let next = from
  let pageEvents = PAGE_EVENTS
  while (!stop.aborted && !stream.closed) {
    if (stream.finalSeq !== undefined && next > stream.finalSeq) return
    if (next > stream.lastSeq) {
      if (stream.ended) return
      await stream.changed(stop)
      continue
    }
    const read = stream.recent(next, pageEvents) ?? (await store.page(taskId, next, pageEvents))
    if (read.length === 0 && !stream.closed) {
      throw new VivariumError('storage_failed', `Events ${next} to ${stream.lastSeq} of ${taskId} are missing.`)
    }
    const page = withinBytes(read)
    // Large events are read in smaller numbers, so that few are read in vain.
    pageEvents = Math.min(PAGE_EVENTS, 2 * page.length)
    for (const record of page) {
      if (stop.aborted || stream.closed) return
      yield await toItem(record)
      next = record.seq + 1
    }
  }
}

/** The first records, up to the one that reaches PAGE_BYTES. */
function withinBytes(records: EventRecord[]): EventRecord[] {
  let bytes = 0
  const end = records.findIndex(({ bodyJson }) => (bytes += bodyJson.length) >= PAGE_BYTES)
  return end === -1 ? records : records.slice(0, end + 1)
}
