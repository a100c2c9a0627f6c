import type { RunServices } from './run.ts'
import { pause } from './waiting.ts'

/**
 * Before the server stops: whether a task's run lies on the disk now, or needs no machine any more, or has not begun. It goes on by itself when
 * a server is there again. Waits `timings.suspendMs` at most; never rejects.
 */
export async function suspendRun(
  { journal, machines, settings, log }: Pick<RunServices, 'journal' | 'machines' | 'settings' | 'log'>,
  taskId: string,
): Promise<boolean> {
  const isOver = new AbortController()
  try {
    const run = await journal.find(taskId)
    if (run === undefined || run.ending !== undefined) return true
    const state = machines.list().find((info) => info.id === run.machineId)?.state
    if (state === 'suspended') return true
    await journal.setWakeAt(taskId, new Date())
    const suspended = machines.suspend(run.machineId).then(() => true)
    return await Promise.race([suspended, pause(settings.timings.suspendMs, isOver.signal).then(() => false)])
  } catch (error) {
    log.warn({ err: error, taskId }, 'a running task could not be suspended')
    return false
  } finally {
    isOver.abort()
  }
}
