import type { AgentStart } from '../agents/types.ts'
import { FINAL_STATUSES } from '../contracts/task.ts'
import type { Database } from '../store/database.ts'
import type { Storage } from '../store/types.ts'
import type { Ending } from './verdict.ts'

/** What of an agent's start its task's request does not say. */
export type JournaledStart = Pick<AgentStart, 'sessionId' | 'resumes' | 'credentialKind'>

/** How much of a task's time limit is used, in milliseconds: `ranMs` at `clockAt` and running since then, or standing still (null). */
export interface ClockReading {
  ranMs: number
  clockAt: Date | null
}

/** A run whose agent was started, or is about to be. */
export interface JournaledRun {
  machineId: string
  execId: string
  start: JournaledStart
  /** Until when its machine was to be kept already; ISO 8601. */
  keepUntil: string | null
  clock: ClockReading
  /** When its machine, if it is suspended, is to go on by itself; null: when somebody asks. */
  wakeAt: Date | null
  /** How its agent ended; undefined until it has. */
  ending: Ending | undefined
  /** Whether all that it has left was brought back. */
  isCollected: boolean
}

/**
 * The journal of runs. A task is in it from before its agent is started until it is final: one that is not when the orchestrator is
 * killed has had no effects and starts over; one that is goes on.
 */
export class RunJournal {
  readonly #database: Database
  readonly #storage: Pick<Storage, 'persist'>

  constructor(database: Database, storage: Pick<Storage, 'persist'>) {
    this.#database = database
    this.#storage = storage
  }

  async begin(taskId: string, run: Omit<JournaledRun, 'wakeAt' | 'ending' | 'isCollected'>): Promise<void> {
    const { machineId, execId, start, keepUntil, clock } = run
    const row = {
      taskId,
      machineId,
      execId,
      startJson: JSON.stringify(start),
      keepUntil,
      wakeAt: null,
      endingJson: null,
    }
    const insert = this.#database.insertInto('runs').values({ ...row, ...clockColumns(clock) })
    await this.#storage.persist(() => insert.execute())
  }

  async setClock(taskId: string, clock: ClockReading): Promise<void> {
    await this.#storage.persist(() =>
      this.#database.updateTable('runs').set(clockColumns(clock)).where('taskId', '=', taskId).execute(),
    )
  }

  async setWakeAt(taskId: string, wakeAt: Date | null): Promise<void> {
    const change = { wakeAt: wakeAt?.toISOString() ?? null }
    await this.#storage.persist(() =>
      this.#database.updateTable('runs').set(change).where('taskId', '=', taskId).execute(),
    )
  }

  async setEnding(taskId: string, ending: Ending): Promise<void> {
    const endingJson = JSON.stringify(ending)
    await this.#storage.persist(() =>
      this.#database.updateTable('runs').set({ endingJson }).where('taskId', '=', taskId).execute(),
    )
  }

  async setCollected(taskId: string): Promise<void> {
    const change = this.#database.updateTable('runs').set({ collected: 1 }).where('taskId', '=', taskId)
    await this.#storage.persist(() => change.execute())
  }

  async find(taskId: string): Promise<JournaledRun | undefined> {
    const row = await this.#database.selectFrom('runs').selectAll().where('taskId', '=', taskId).executeTakeFirst()
    if (row === undefined) return undefined
    const { machineId, execId, startJson, keepUntil, ranMs, clockAt, wakeAt, endingJson, collected } = row
    return {
      machineId,
      execId,
      start: { credentialKind: undefined, ...(JSON.parse(startJson) as Partial<JournaledStart>) } as JournaledStart,
      keepUntil,
      clock: { ranMs, clockAt: clockAt === null ? null : new Date(clockAt) },
      wakeAt: wakeAt === null ? null : new Date(wakeAt),
      ending: endingJson === null ? undefined : (JSON.parse(endingJson) as Ending),
      isCollected: collected === 1,
    }
  }

  async machines(): Promise<string[]> {
    const rows = await this.#database.selectFrom('runs').select('machineId').execute()
    return rows.map(({ machineId }) => machineId)
  }

  /** Removes what is left of tasks that are final: their orchestrator was killed before it did. */
  async removeEnded(): Promise<void> {
    const unfinished = this.#database
      .selectFrom('tasks')
      .select('id')
      .where('status', 'not in', [...FINAL_STATUSES])
    await this.#database.deleteFrom('runs').where('taskId', 'not in', unfinished).execute()
  }

  async remove(taskId: string): Promise<void> {
    await this.#storage.persist(() => this.#database.deleteFrom('runs').where('taskId', '=', taskId).execute())
  }
}

function clockColumns({ ranMs, clockAt }: ClockReading) {
  return { ranMs, clockAt: clockAt?.toISOString() ?? null }
}
