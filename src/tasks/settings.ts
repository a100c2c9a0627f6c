const MIB = 1024 * 1024

/** Everything about tasks that can be set, resolved: no optional fields. */
export interface TaskSettings {
  /** Waiting tasks beyond this are refused. */
  maxQueued: number
  /** How often a task may be started again. */
  maxRetries: number
  /** All result files of one task together, in bytes; also the largest upload and patch. */
  maxResultBytes: number
  maxResultFiles: number
  /** Largest workspace that is stored for follow-ups, in bytes; 0 stores none. */
  maxStateBytes: number
  /** Names of folders and files that are never brought back. */
  exclude: string[]
  /** What becomes of running tasks when the server stops. */
  atShutdown: 'suspend' | 'leave' | 'stop'
  timings: Timings
}

/** Milliseconds. Those that wait for guest code are multiplied by the engine's time scale where they are used. */
export interface Timings {
  /** Sending in the workspace: each of upload, clone and files. */
  prepareMs: number
  /** How long an agent may stay after its result with nothing to do. */
  lingerMs: number
  /** From SIGTERM to SIGKILL. */
  terminateMs: number
  /** From SIGKILL to giving the process up. */
  killMs: number
  /** Bringing back files, patch and transcript. */
  collectMs: number
  /** How long a link that failed waits for its machine to say why. */
  lostMs: number
  /** How long a shutdown waits for a machine to be saved, in which requests to the model may end first. */
  suspendMs: number
  /** How long a shutdown waits before it stops being patient with running tasks. */
  shutdownMs: number
  /** Uploads that no task took are removed after this. */
  uploadMs: number
  /** How long a task waits before it is started again; twice as long after each further failure. */
  retryMs: number
  /** So much earlier does a task seem to have come for each level of its priority. */
  agingMs: number
}

const TIMINGS: Omit<Timings, 'agingMs'> = {
  prepareMs: 10 * 60_000,
  lingerMs: 15_000,
  terminateMs: 10_000,
  killMs: 10_000,
  collectMs: 5 * 60_000,
  lostMs: 2_000,
  suspendMs: 120_000,
  shutdownMs: 20_000,
  uploadMs: 60 * 60_000,
  retryMs: 5_000,
}

/** The part of the configuration that tasks need. */
interface TaskConfig {
  results: { maxMib: number; maxFiles: number; stateMib: number; exclude: string[] }
  tasks: { maxQueued: number; maxRetries: number; agingSeconds: number; atShutdown: TaskSettings['atShutdown'] }
}

export function taskSettings({ results, tasks }: TaskConfig): TaskSettings {
  return {
    maxQueued: tasks.maxQueued,
    maxRetries: tasks.maxRetries,
    maxResultBytes: results.maxMib * MIB,
    maxResultFiles: results.maxFiles,
    maxStateBytes: results.stateMib * MIB,
    exclude: results.exclude,
    atShutdown: tasks.atShutdown,
    timings: { ...TIMINGS, agingMs: tasks.agingSeconds * 1000 },
  }
}

/** Factor on waits for a process that has nothing left to do: emulation is slow, but not at sleeping. */
const MAX_LINGER_SCALE = 4

/** Timings on an engine whose guests are slower by `timeScale`. */
export function scaled(timings: Timings, timeScale: number): Timings {
  return {
    ...timings,
    prepareMs: timings.prepareMs * timeScale,
    lingerMs: timings.lingerMs * Math.min(timeScale, MAX_LINGER_SCALE),
    terminateMs: timings.terminateMs * timeScale,
    killMs: timings.killMs * timeScale,
    collectMs: timings.collectMs * timeScale,
  }
}
