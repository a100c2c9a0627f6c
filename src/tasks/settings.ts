import { availableParallelism, totalmem } from 'node:os'

const MIB = 1024 * 1024

/** Everything about tasks that can be set, resolved: no optional fields, no zero that means "derive it". */
export interface TaskSettings {
  /** Guest memory of all machines together, in MiB. */
  totalMemoryMib: number
  /** Machines at once. */
  maxMachines: number
  /** Waiting tasks beyond this are refused. */
  maxQueued: number
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
  /** How long a shutdown waits before it stops being patient with running tasks. */
  shutdownMs: number
  /** Uploads that no task took are removed after this. */
  uploadMs: number
}

const TIMINGS: Timings = {
  prepareMs: 10 * 60_000,
  lingerMs: 15_000,
  terminateMs: 10_000,
  killMs: 10_000,
  collectMs: 5 * 60_000,
  lostMs: 2_000,
  shutdownMs: 20_000,
  uploadMs: 60 * 60_000,
}

/** The part of the configuration that tasks need; zero derives a limit from the host. */
interface TaskConfig {
  machines: { totalMemoryMib: number; maxMachines: number }
  results: { maxMib: number; maxFiles: number; stateMib: number; exclude: string[] }
  tasks: { maxQueued: number; atShutdown: TaskSettings['atShutdown'] }
}

/** Memory that is really ours (a container may have less than its host), in bytes, and cores. */
function thisHost(): { memoryBytes: number; cores: number } {
  const limit = process.constrainedMemory()
  const memoryBytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem()
  return { memoryBytes, cores: availableParallelism() }
}

/** Resolves the settings for a host: by default three quarters of its memory, and two machines a core. */
export function taskSettings(config: TaskConfig, host = thisHost()): TaskSettings {
  const { machines, results, tasks } = config
  return {
    totalMemoryMib: machines.totalMemoryMib || Math.floor((host.memoryBytes * 0.75) / MIB),
    maxMachines: machines.maxMachines || Math.max(2, host.cores * 2),
    maxQueued: tasks.maxQueued,
    maxResultBytes: results.maxMib * MIB,
    maxResultFiles: results.maxFiles,
    maxStateBytes: results.stateMib * MIB,
    exclude: results.exclude,
    atShutdown: tasks.atShutdown,
    timings: TIMINGS,
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
