import { setTimeout as sleep } from 'node:timers/promises'
import type { VivariumClient } from '../client/types.ts'
import type { Task } from '../contracts/task.ts'
import { harmless } from './colour.ts'
import type { Io } from './io.ts'
import { renderEvent, renderSummary } from './render.ts'

/** How often a task that waits to be started is looked at. */
const WAITING_MS = 2000

/** Prints a task's stream to its end. The first interrupt cancels the task, whose files are still collected. */
export async function watchTask(
  io: Io,
  client: VivariumClient,
  task: Task,
  print: (line: string) => void,
): Promise<Task> {
  {
    using _ = cancelOnInterrupt(io, client, [task.id])
    await using _waiting = tellWaiting(client, task, (reason) => print(io.paint.grey(`· ${harmless(reason)}`)))
    for await (const event of client.tasks.follow(task.id)) {
      const line = renderEvent(event, io.paint)
      if (line !== undefined) print(line)
    }
  }
  const finished = await client.tasks.get(task.id)
  print(renderSummary(finished, io.paint))
  return finished
}

/** Tells why a task is not started yet, whenever that has changed, until it is or this is disposed of. */
function tellWaiting(client: VivariumClient, task: Task, tell: (reason: string) => void): AsyncDisposable {
  const over = new AbortController()
  const { signal } = over
  const telling = (async () => {
    let told: string | undefined
    for (
      let { status, queue } = task;
      status === 'queued';
      { status, queue } = await client.tasks.get(task.id, { signal })
    ) {
      if (queue !== null && queue.reason !== told) tell((told = queue.reason))
      await sleep(WAITING_MS, undefined, { signal })
    }
  })().catch(() => {}) // whoever follows the task hears of what is wrong
  return {
    async [Symbol.asyncDispose]() {
      over.abort()
      await telling
    },
  }
}

/** Until disposed of, the first interrupt cancels these tasks; their files are still collected. */
export function cancelOnInterrupt(io: Io, client: VivariumClient, taskIds: readonly string[]): Disposable {
  const cancel = () => {
    io.note(`Cancelling ${taskIds.join(', ')} …`)
    for (const id of taskIds)
      client.tasks.cancel(id).catch((error: unknown) => io.note(`Cancelling ${id} failed: ${String(error)}`))
  }
  if (io.signal.aborted) cancel()
  else io.signal.addEventListener('abort', cancel, { once: true })
  return { [Symbol.dispose]: () => io.signal.removeEventListener('abort', cancel) }
}
