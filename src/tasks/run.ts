import type { Agent } from '../agents/types.ts'
import type { Blobs } from '../blobs/types.ts'
import type { AgentName } from '../contracts/task.ts'
import type { EventLog, OpenEventWriter } from '../events/types.ts'
import type { Gateway } from '../gateway/types.ts'
import type { Machines, ReadyPool } from '../machines/types.ts'
import type { Storage } from '../store/types.ts'
import type { Logger } from '../telemetry/types.ts'
import type { KeptMachines } from './kept-machines.ts'
import type { RunJournal } from './run-journal.ts'
import type { TaskSettings } from './settings.ts'
import type { StopSwitch } from './stop.ts'
import type { StoredRequest, TaskStore } from './task-store.ts'

/** What a run needs of the rest of the house. */
export interface RunServices {
  store: TaskStore
  journal: RunJournal
  events: Pick<EventLog, 'checkpoint'>
  storage: Storage
  openWriter: OpenEventWriter
  blobs: Blobs
  machines: Machines
  pool: Pick<ReadyPool, 'take'>
  kept: KeptMachines
  gateway: Gateway
  agents: Readonly<Record<AgentName, Agent>>
  settings: TaskSettings
  log: Logger
}

/** One task on its way. Nothing of it is shared with another task. */
export interface Run {
  id: string
  userId: string
  request: StoredRequest
  /** How often the task was started, this time included. */
  attempts: number
  stop: StopSwitch
  /** Aborts when the run is to be left as it is, for another orchestrator to take up. */
  leave: AbortSignal
  /** Aborts when there is no time left to be patient. */
  hurry: AbortSignal
}
