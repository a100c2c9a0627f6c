import { EventEmitter, once } from 'node:events'
import type { NewEvent, TaskEvent } from '../../contracts/event.ts'
import { isFinal } from '../../contracts/task.ts'
import type { EventJson, EventLog, StatusEvent, UsageEvent } from '../../events/types.ts'

/** An event log in memory that counts its live readers, so that tests can see them being freed. */
export class FakeLog implements EventLog {
  readers = 0
  readonly #events = new Map<string, TaskEvent[]>()
  readonly #changed = new EventEmitter().setMaxListeners(0)

  async append(taskId: string, events: NewEvent[]): Promise<number> {
    const log = this.#of(taskId)
    for (const event of events) log.push({ ...event, taskId, seq: log.length + 1, at: new Date().toISOString() })
    this.#changed.emit('change')
    return log.length
  }

  async checkpoint(): Promise<undefined> {}

  async usage(taskId: string): Promise<UsageEvent[]> {
    return this.#of(taskId).filter((event) => event.type === 'usage')
  }

  async ending(taskId: string): Promise<StatusEvent | undefined> {
    const last = this.#of(taskId).findLast((event) => event.type === 'status')
    return last !== undefined && isFinal(last.status) ? last : undefined
  }

  async read(taskId: string, from: number, limit: number): Promise<TaskEvent[]> {
    return this.#of(taskId).slice(from - 1, from - 1 + limit)
  }

  async *follow(taskId: string, from: number, signal?: AbortSignal): AsyncGenerator<TaskEvent> {
    const log = this.#of(taskId)
    this.readers += 1
    try {
      for (let seq = from; ; seq++) {
        signal?.throwIfAborted()
        while (log.length < seq) {
          if (log.some((event) => event.type === 'status' && isFinal(event.status))) return
          await once(this.#changed, 'change', signal === undefined ? {} : { signal })
        }
        const event = log[seq - 1]
        if (event !== undefined) yield event
      }
    } catch (error) {
      if (signal?.aborted !== true) throw error
    } finally {
      this.readers -= 1
      this.#changed.emit('reader')
    }
  }

  async *followJson(taskId: string, from: number, signal?: AbortSignal): AsyncGenerator<EventJson> {
    for await (const event of this.follow(taskId, from, signal))
      yield { seq: event.seq, json: Buffer.from(JSON.stringify(event)) }
  }

  /** Resolves once nobody follows any more. */
  async noReaders(): Promise<void> {
    while (this.readers > 0) await once(this.#changed, 'reader')
  }

  async remove(taskId: string): Promise<void> {
    this.#events.delete(taskId)
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #of(taskId: string): TaskEvent[] {
    const log = this.#events.get(taskId) ?? []
    this.#events.set(taskId, log)
    return log
  }
}
