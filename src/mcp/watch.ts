import type { VivariumClient } from '../client/types.ts'
import { newsOf, OutputTail, storedTail, type TaskOutput, taskOutput } from './task-output.ts'
import type { Progress } from './progress.ts'

/**
 * Follows a task to its end, for `timeoutMs`, or until `ending` aborts, and tells the caller what it does meanwhile. Resolves with how it stands
 * then; rejects with the signal's reason when nobody waits any more.
 */
export async function watchTask(
  client: VivariumClient,
  taskId: string,
  options: { progress: Progress; signal: AbortSignal; ending: AbortSignal; timeoutMs?: number },
): Promise<TaskOutput> {
  const { progress, signal, ending, timeoutMs } = options
  const tail = new OutputTail()
  const enough = new AbortController()
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => enough.abort(), timeoutMs)
  const over = AbortSignal.any([enough.signal, ending])
  try {
    for await (const event of client.tasks.follow(taskId, { signal: AbortSignal.any([signal, over]) })) {
      tail.see(event)
      const news = newsOf(event)
      if (news !== undefined) progress.say(`Task ${taskId}: ${news}`)
    }
  } catch (error) {
    signal.throwIfAborted()
    if (!over.aborted) throw error
    // The log may be longer than the time to go through it was.
    const task = await client.tasks.get(taskId, { signal })
    return taskOutput(client, task, await storedTail(client, taskId, signal), signal)
  } finally {
    clearTimeout(timer)
  }
  return taskOutput(client, await client.tasks.get(taskId, { signal }), tail.text, signal)
}
