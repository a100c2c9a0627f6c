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
  const cancel = () => {
    io.note(`Cancelling ${task.id} …`)
    client.tasks.cancel(task.id).catch((error: unknown) => io.note(`Cancelling failed: ${String(error)}`))
  }
  if (io.signal.aborted) cancel()
  else io.signal.addEventListener('abort', cancel, { once: true })
  try {
    for await (const event of client.tasks.follow(task.id)) {
      const line = renderEvent(event, io.paint)
      if (line !== undefined) print(line)
    }
  } finally {
    io.signal.removeEventListener('abort', cancel)
  }
  const finished = await client.tasks.get(task.id)
  print(renderSummary(finished, io.paint))
  return finished
}
