import type { Duplex, Readable } from 'node:stream'
import type { EngineName, ExecRequest, ExecResponse, MachineInfo, MachineRequest } from '../contracts/machine.ts'
import type { GuestImage } from '../images/types.ts'
import type { ExecOutput, GuestLink } from '../link/types.ts'

/** What an engine can do, as data: nobody asks an engine for its name to find out. */
interface EngineCapabilities {
  /** Guest code runs under the CPU's virtualisation, not under software emulation. */
  hardwareIsolation: boolean
  /** Machines can be saved and restored. */
  snapshots: boolean
  /** Machines can be given a network card. */
  tap: boolean
}

/** The answer of an engine to "would you work here?". */
export interface EngineProbe {
  engine: EngineName
  works: boolean
  /** Version of the VMM found, or null. */
  version: string | null
  /** Why it does not work, or what to know about how it does. */
  reason: string | null
  /** The command that mends it, or null. */
  fix: string | null
}

/** A process, so that it can be found again: a pid alone may be somebody else's by now. */
export interface ProcessIdentity {
  pid: number
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  startTime: number
}

/** Everything an engine needs to start one machine. The folder exists, is empty and belongs to this machine alone. */
export interface VmmSpec {
  id: string
  /** Short run-time folder (`/run/vivarium/<id>`): unix socket paths end at 107 bytes. Holds `control.sock` and `egress.sock`, on which the host already listens. */
  runDir: string
  /** Folder for this machine's disks. */
  diskDir: string
  image: GuestImage
  /** The empty scratch disk that this machine's own is laid over. */
  scratchBase: string
  memoryMib: number
  vcpus: number
  /** Uid and gid of the VMM process: leased to this machine alone. Undefined where the orchestrator is not root. */
  uid: number | undefined
}

/** A running VMM process. */
export interface Vmm {
  readonly identity: ProcessIdentity
  /** Resolves once the process is gone, with a sentence that says how it ended. */
  readonly exited: Promise<string>
  /** Resolves once the guest's init has handed over to the agent. May never resolve, never rejects. */
  readonly guestUp: Promise<void>
  /** The last 64 KiB of the guest's serial console: for error messages only, hostile text. */
  consoleTail(): Promise<string>
  /** Writes the guest's whole memory to `path` (tests and post-mortems). */
  dumpMemory(path: string): Promise<void>
  /** Kills the process and all it started; resolves when they are gone. Idempotent. */
  kill(): Promise<void>
}

export interface Engine {
  readonly name: EngineName
  readonly capabilities: EngineCapabilities
  /** Factor on every deadline that waits for guest code: 1 with hardware virtualisation. */
  readonly timeScale: number
  /** Boots a guest to its init, once per kernel and VMM; the answer is remembered on disk. */
  probe(signal?: AbortSignal): Promise<EngineProbe>
  /** Starts a VMM. `started` is called with its identity before the guest runs its first instruction, to be journaled. */
  create(spec: VmmSpec, started: (identity: ProcessIdentity) => Promise<void>, signal?: AbortSignal): Promise<Vmm>
  /** Finds the VMM of a journaled machine again, or undefined when that process is gone. */
  adopt(spec: VmmSpec, identity: ProcessIdentity): Promise<Vmm | undefined>
}

export interface MachineOptions {
  /** The id to give it, for a caller that must know it before (its egress session names it); a fresh one otherwise. */
  id?: string
  userId: string
  taskId: string | null
  memoryMib: number
  vcpus: number
  /** Takes each egress connection of the guest; the gateway's end of the link. */
  egress: (socket: Duplex) => void
  /** Called with the updated info whenever the machine's state or phase changes. */
  onChange?: (info: MachineInfo) => void
  signal?: AbortSignal
}

/** A booted machine whose agent has said hello. */
export interface Machine {
  readonly id: string
  readonly link: GuestLink
  /** Deadline factor of the engine it runs on. */
  readonly timeScale: number
  info(): MachineInfo
  /** Resolves with a sentence when the machine is gone for a reason other than `destroy`: VMM died, link lost. */
  readonly lost: Promise<string>
  dumpMemory(path: string): Promise<void>
  /** Kills the VMM and removes every trace. Idempotent, never rejects for a machine that is already gone. */
  destroy(): Promise<void>
}

export interface Machines extends AsyncDisposable {
  /** Boots a machine. Rejects with `setup_required`, `boot_failed`, `engine_failed` or `machine_too_large`, after removing what it made. */
  create(options: MachineOptions): Promise<Machine>
  get(id: string): Machine | undefined
  list(): MachineInfo[]
  /** Destroys a machine under whoever uses it: its `lost` resolves with `reason`. */
  evict(id: string, reason: string): Promise<void>
  /** Calls `listener` on every change of any machine; returns the unsubscribe function. */
  watch(listener: (info: MachineInfo) => void): () => void
  /** Removes what a previous orchestrator left: VMMs by pid and start time, folders, disks. Returns the ids of the machines removed. */
  reconcile(): Promise<string[]>
  /** The engine in use; chosen (and probed) on first call. */
  engine(): Promise<Engine>
}

/**
 * What people may do with machines: every call is scoped to `userId`, another user's machine is `not_found`. A machine that
 * runs a task can be looked into and destroyed (its task then fails, saying so).
 */
export interface MachineAccess {
  list(userId: string): MachineInfo[]
  get(userId: string, id: string): MachineInfo
  /** Boots a machine without a task; resolves when it is ready. Rejects with `queue_full` where there is no room for it. */
  create(userId: string, request: MachineRequest, signal?: AbortSignal): Promise<MachineInfo>
  destroy(userId: string, id: string): Promise<void>
  /** Runs a command to its end; output is capped at 1 MiB per stream. */
  exec(userId: string, id: string, request: ExecRequest, signal?: AbortSignal): Promise<ExecResponse>
  /** The same, live. Ends after the `exit` piece; leaving early kills the command. */
  execStream(userId: string, id: string, request: ExecRequest, signal?: AbortSignal): AsyncIterable<ExecOutput>
  readFile(userId: string, id: string, path: string, signal?: AbortSignal): Promise<{ size: number; body: Readable }>
  writeFile(userId: string, id: string, path: string, body: Readable, signal?: AbortSignal): Promise<void>
}
