import type { ErrorCode } from '../contracts/errors.ts'
import type { EventLog } from '../events/types.ts'
import { blobKeys } from './blob-keys.ts'
import type { RunServices } from './run.ts'

/**
 * Makes a task wait again as if it had never been started, but for its log, which says why, and the number of its attempts. Rejects with
 * `storage_failed`.
 */
export async function forgetAttempt(
  { blobs, store, events }: Pick<RunServices, 'blobs' | 'store'> & { events: EventLog },
  { id, attempts }: { id: string; attempts: number },
  { code, why }: { code: ErrorCode | undefined; why: string },
): Promise<void> {
  // In this order: no row names bytes that are gone.
  await store.startOver(id, attempts)
  await blobs.removeAll(blobKeys.results(id))
  const message = `The task is started again: ${why}`
  await events.append(id, [
    { type: 'log', level: 'warn', message, data: { code, attempt: attempts } },
    { type: 'status', status: 'queued' },
  ])
}
