import type { ConversationFiles } from '../agents/types.ts'
import type { GuestLink } from '../link/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { LeftRunning } from './agent-run.ts'
import { collect } from './collect.ts'
import type { Recorder } from './recorder.ts'
import type { Run, RunServices } from './run.ts'
import { storeState } from './state.ts'

export interface BringBackOptions {
  services: Pick<RunServices, 'blobs' | 'settings' | 'store'>
  run: Pick<Run, 'id' | 'leave' | 'hurry'>
  link: GuestLink
  /** Where the agent has written its conversation, if it has one. */
  conversation: ConversationFiles | undefined
  recorder: Recorder
  /** Makes the deadline of each of the two steps. */
  deadline: () => AbortSignal
}

/**
 * Collects a task's files, and the state that a follow-up needs; what is missing is told in the task's log. Rejects with `LeftRunning` when
 * there was no time left for it and the next orchestrator is to do it anew.
 */
export async function bringBack(options: BringBackOptions): Promise<void> {
  const { services, run, link, conversation, recorder, deadline } = options
  const { id: taskId, leave, hurry } = run
  const { blobs, settings, store } = services
  const transcriptPath = conversation && `${conversation.folder}/${conversation.transcript}`
  const collected = await collect({ taskId, link, blobs, settings, transcriptPath, signal: deadline() })
  const { files, patchBytes, problems, hasTranscript } = collected
  crashPoint('results collected')
  if (leave.aborted && hurry.aborted) throw new LeftRunning()
  await store.setFiles(taskId, files)
  // A conversation of which nothing was written has not begun: there is nothing to resume.
  await store.update(taskId, { patchBytes, ...(hasTranscript ? {} : { sessionId: null }) })
  crashPoint('results recorded')
  for (const problem of problems) await recorder.log('warn', problem, { code: 'results_incomplete' })

  const told = hasTranscript ? conversation : undefined
  const maxBytes = settings.maxStateBytes
  const missing = await storeState({ taskId, link, blobs, maxBytes, conversation: told, signal: deadline() })
  if (missing === undefined) await store.update(taskId, { hasState: 1 })
  else await recorder.log('info', missing)
}
