import { sql } from 'kysely'
import type { Blobs } from '../blobs/types.ts'
import { ClockJumps, type ClockReading } from '../clock/clock-jumps.ts'
import type { Config } from '../config/schema.ts'
import { TaskPart } from '../contracts/removed.ts'
import { FINAL_STATUSES } from '../contracts/task.ts'
import type { Machines } from '../machines/types.ts'
import type { Database } from '../store/database.ts'
import type { Logger } from '../telemetry/types.ts'
import { measure } from './measure.ts'
import { due, type Candidate } from './policy.ts'
import type { Freed, Retention, TaskRemoval } from './types.ts'

const MIB = 1024 * 1024
const PASS_MS = 60 * 60_000

/** Between two passes; less is put right by the time service of any host. */
const MAX_JUMP_MS = 60 * 60_000

/** What decides over each part: its age, and what all of them take. */
const SETTINGS = {
  files: ['resultsDays', 'resultsMib'],
  events: ['eventsDays', 'eventsMib'],
  state: ['stateDays', 'stateMib'],
} as const satisfies Record<TaskPart, [keyof Config['retention'], keyof Config['retention']]>

export interface RetentionOptions {
  database: Database
  blobs: Pick<Blobs, 'usage'>
  removal: TaskRemoval
  machines: Pick<Machines, 'list' | 'evict'>
  /** What a suspended machine takes on disk, in bytes. */
  machineBytes: (machineId: string) => Promise<number>
  settings: Config['retention']
  log: Logger
  read?: () => ClockReading
}

/** Removes what is finished, old and too much: at the first pass, which is its caller's, and every hour. */
export function createRetention(options: RetentionOptions): Retention {
  return new HourlyRetention(options)
}

class HourlyRetention implements Retention {
  readonly freed: Freed = nothing()
  readonly #options: RetentionOptions
  readonly #clock: ClockJumps
  readonly #timer: NodeJS.Timeout
  #pass: Promise<Freed> | undefined

  constructor(options: RetentionOptions) {
    this.#options = options
    this.#clock = new ClockJumps(options.read)
    this.#timer = setInterval(() => void this.#runInBackground(), PASS_MS).unref()
  }

  run(): Promise<Freed> {
    this.#pass ??= this.#perform().finally(() => {
      this.#pass = undefined
    })
    return this.#pass
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  async #runInBackground(): Promise<void> {
    try {
      await this.run()
    } catch (err) {
      this.#options.log.error({ err }, 'what is due for removal could not be removed; it is tried again in an hour')
    }
  }

  async #perform(): Promise<Freed> {
    const { database, blobs, removal, log, read } = this.#options
    // What can't be brought back must not go because a clock was set wrong for a moment.
    if (Math.abs(this.#clock.look()) > MAX_JUMP_MS) {
      log.warn('the clock of this host has jumped: nothing is judged by its age until the next pass')
      return nothing()
    }
    const now = new Date(read?.().wallMs ?? Date.now())
    await removal.finish()
    await measure(database, blobs)
    const freed = nothing()
    freed.tasks = await this.#forget(now)
    for (const part of TaskPart.options) freed[part] = await this.#takeParts(part, now, freed)
    freed.machines = await this.#evictMachines(now, freed)
    this.#tell(freed)
    return freed
  }

  /** Whole tasks; what nobody may remove yet stays until the next pass. */
  async #forget(now: Date): Promise<number> {
    const { removal, settings } = this.#options
    const kept = new Set(this.#options.machines.list().map(({ taskId }) => taskId))
    let count = 0
    for (const { id } of due(await this.#finished(), { days: settings.tasksDays, bytes: 0 }, now))
      if (!kept.has(id) && (await removal.forget(id))) count += 1
    return count
  }

  async #takeParts(part: TaskPart, now: Date, freed: Freed): Promise<number> {
    const { removal, settings } = this.#options
    const [days, mib] = SETTINGS[part]
    const limit = { days: settings[days], bytes: settings[mib] * MIB }
    let count = 0
    for (const { id, bytes, why } of due(await this.#finished(part), limit, now)) {
      if (!(await removal.take(id, part, `retention.${why === 'age' ? days : mib}`))) continue
      count += 1
      freed.bytes += bytes
    }
    return count
  }

  /** Finished tasks, oldest first; with a part, those that have it. */
  async #finished(part?: TaskPart): Promise<Candidate[]> {
    const bytes = part === undefined ? sql<number>`0` : sql<number>`coalesce(${sql.ref(`${part}Bytes`)}, 0)`
    const rows = await this.#options.database
      .selectFrom('tasks')
      .select(['id', sql<string>`coalesce(finished_at, created_at)`.as('finishedAt'), bytes.as('bytes')])
      .where('status', 'in', [...FINAL_STATUSES])
      .orderBy('finishedAt')
      .execute()
    return part === undefined ? rows : rows.filter((row) => row.bytes > 0)
  }

  /** Suspended kept machines end by themselves in time (`keepUntil`); here the oldest go when they take too much together. */
  async #evictMachines(now: Date, freed: Freed): Promise<number> {
    const { machines, machineBytes, settings, database, log } = this.#options
    const needed = new Set(
      (
        await database
          .selectFrom('tasks')
          .select('continues')
          .where('status', 'not in', [...FINAL_STATUSES])
          .execute()
      ).map(({ continues }) => continues),
    )
    const suspended: Candidate[] = []
    for (const { id, state, keepUntil, taskId, createdAt } of machines.list())
      if (state === 'suspended' && keepUntil !== null && !needed.has(taskId))
        suspended.push({ id, finishedAt: createdAt, bytes: await machineBytes(id) })
    suspended.sort((a, b) => (a.finishedAt < b.finishedAt ? -1 : 1))
    let count = 0
    for (const { id, bytes } of due(suspended, { days: 0, bytes: settings.suspendedMib * MIB }, now)) {
      await machines.evict(id, 'It was removed by retention (retention.suspendedMib).')
      log.info({ machineId: id, bytes }, 'removed a suspended machine (retention.suspendedMib)')
      count += 1
      freed.bytes += bytes
    }
    return count
  }

  #tell(freed: Freed): void {
    for (const name of Object.keys(freed) as (keyof Freed)[]) this.freed[name] += freed[name]
    const isIdle = Object.values(freed).every((count) => count === 0)
    if (!isIdle) this.#options.log.info({ ...freed }, 'retention has removed what was due')
  }
}

function nothing(): Freed {
  return { tasks: 0, files: 0, events: 0, state: 0, machines: 0, bytes: 0 }
}
