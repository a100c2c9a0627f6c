import type { EventLog } from '../events/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { blobKeys } from './blob-keys.ts'
import type { RunServices } from './run.ts'
import type { StoredRequest } from './task-store.ts'
import type { Ending } from './verdict.ts'

type Services = Pick<RunServices, 'store' | 'journal' | 'blobs' | 'log'> & { events: EventLog }
type Concluded = { id: string; request: StoredRequest }

/**
 * Makes a task final: details into its row, then its last event, then its status, so that a crash in between leaves what `settle` can finish.
 * A step that fails is logged, and the others are taken. Never rejects.
 */
export async function conclude(services: Services, task: Concluded, ending: Ending): Promise<void> {
  const { store, events, log } = services
  const { id } = task
  const { status, failure, exitCode, result, turns } = ending
  const attempt = async (what: string, step: () => Promise<unknown>) => {
    try {
      await step()
    } catch (error) {
      log.error({ err: error, taskId: id }, `could not ${what}`)
    }
  }
  const errorJson = failure === undefined ? null : JSON.stringify(failure)
  await attempt('store how it ended', () =>
    store.update(id, { exitCode, result, turns, errorJson, waitingUntil: null }),
  )
  crashPoint('ending stored')
  const error = failure === undefined ? {} : { error: failure }
  await attempt('store its last event', () => events.append(id, [{ type: 'status', status, ...error }]))
  crashPoint('last event stored')
  await attempt('store its status', () => store.update(id, { status, finishedAt: new Date().toISOString() }))
  crashPoint('status stored')
  await attempt('clear away what it needed', () => clearAway(services, task))
  log.info({ taskId: id, status, code: failure?.code }, 'task ended')
}

/** Gives a task whose log has come to its end the row that says so. Whether it had. */
export async function settle(services: Services, task: Concluded): Promise<boolean> {
  const { store, events } = services
  const end = await events.ending(task.id)
  if (end === undefined) return false
  await store.update(task.id, { status: end.status, finishedAt: end.at })
  await clearAway(services, task)
  return true
}

/** Removes what only a task that is not final needs. */
async function clearAway({ blobs, journal }: Services, { id, request }: Concluded): Promise<void> {
  await journal.remove(id)
  if (request.files.length > 0) await blobs.removeAll(blobKeys.inputs(id))
  if (request.uploadId !== undefined) await blobs.removeAll(blobKeys.uploads(request.uploadId))
}
