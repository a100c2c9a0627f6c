import type { FinalStatus, TaskStatus } from '../../src/contracts/task.ts'

const FINAL: Record<FinalStatus, true> = {
  succeeded: true,
  failed: true,
  cancelled: true,
  timed_out: true,
  over_budget: true,
  interrupted: true,
}

/** Whether a task in this status will never change again. */
export function isFinal(status: TaskStatus): status is FinalStatus {
  return Object.hasOwn(FINAL, status)
}

/** How a status is written for people. */
export const STATUS_LABEL: Record<TaskStatus, string> = {
  queued: 'queued',
  starting: 'starting',
  running: 'running',
  waiting: 'waiting',
  collecting: 'collecting',
  succeeded: 'succeeded',
  failed: 'failed',
  cancelled: 'cancelled',
  timed_out: 'timed out',
  over_budget: 'over budget',
  interrupted: 'interrupted',
}
