import type { VivariumClient } from '../client/types.ts'
import type { Task } from '../contracts/task.ts'
import type { Io } from './io.ts'
import { renderEvent, renderSummary } from './render.ts'

/** Prints a task's stream to its end. The first interrupt cancels the task, whose files are still collected. */
export async function watchTask(
  io: Io,
  client: VivariumClient,
  task: Task,
  print: (line: string) => void,
): Promise<Task> {
  {
    using _ = cancelOnInterrupt(io, client, [task.id])
    for await (const event of client.tasks.follow(task.id)) {
      const line = renderEvent(event, io.paint)
      if (line !== undefined) print(line)
    }
  }
  const finished = await client.tasks.get(task.id)
  print(renderSummary(finished, io.paint))
  return finished
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
