import type { Duplex, Readable } from 'node:stream'
import type { EngineName, ExecRequest, ExecResponse, MachineInfo, MachineRequest } from '../contracts/machine.ts'
import type { NetworkPolicy } from '../contracts/network.ts'
import type { ShellRequest, TerminalSize } from '../contracts/shell.ts'
import type { Template, TemplateRequest } from '../contracts/template.ts'
import type { GuestImage, Progress } from '../images/types.ts'
import type { ExecOutput, GuestLink } from '../link/types.ts'
import type { FoundLeak } from '../reaper/types.ts'

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
  /** `file`: RAM is the file `memory` in `diskDir`, where a saved machine leaves it to be mapped by others. */
  memory: 'anonymous' | 'file'
  /** Uid and gid of the VMM process: leased to this machine alone. Undefined where the orchestrator is not root. */
  uid: number | undefined
}

/**
 * A saved machine to start from. Its folder holds `state` (devices, and RAM where there is no `memory`), the disk, and
 * `memory` where RAM is to be mapped privately. Nothing of it changes while a machine starts from it.
 */
export interface SavedMachine {
  folder: string
  /**
   * How the new machine gets its disk: a layer `over` the saved one, which then never changes again; a `copy` of it, because
   * its machine will go on; or its `own`, where the folder is the machine's own disk folder: it was suspended and goes on, for
   * which the engine removes `state` at the last moment.
   */
  disk: 'over' | 'copy' | 'own'
}

/** A running VMM process. */
export interface Vmm {
  readonly identity: ProcessIdentity
  /** Resolves once the process is gone, with a sentence that says how it ended. */
  readonly exited: Promise<string>
  /** Resolves once the guest's init has handed over to the agent. May never resolve, never rejects. */
  readonly guestUp: Promise<void>
  /**
   * Calls `listener` with a sentence when the host can't give the guest what it needs and its processors stand still, and with undefined when they
   * go on, which they do by themselves; at once where they stand still already.
   */
  onStall(listener: (why: string | undefined) => void): void
  /** The last 64 KiB of the guest's serial console: for error messages only, hostile text. */
  consoleTail(): Promise<string>
  /** Writes the guest's whole memory to `path` (tests and post-mortems). */
  dumpMemory(path: string): Promise<void>
  /**
   * Resolves when a parked guest has come to rest: its agent waits at both streams and its processors are idle. Rejects with
   * `engine_failed` when that takes too long, or with the reason of `signal`.
   */
  settled(signal: AbortSignal): Promise<void>
  /** Stops the processors. */
  pause(): Promise<void>
  /** Lets them go on. */
  resume(): Promise<void>
  /** Writes `state` of a paused machine into its disk folder, which is a SavedMachine once the process was killed. */
  save(signal?: AbortSignal): Promise<void>
  /** Kills the process and all it started; resolves when they are gone. Idempotent. */
  kill(): Promise<void>
  /** Lets go of the process, for another orchestrator. */
  release(): void
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
  /**
   * Starts a VMM from a saved machine of the same size, whose guest goes on where it was. Otherwise as `create`. The caller
   * has made sure that nothing differs from what the saved machine was made with (`compatibility`).
   */
  restore(
    spec: VmmSpec,
    from: SavedMachine,
    started: (identity: ProcessIdentity) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<Vmm>
  /**
   * What of this engine and host a saved machine depends on, by name and in words for people, e.g. `{vmm: 'QEMU 7.2.22'}`. One that was made
   * with anything else must not be restored.
   */
  compatibility(): Promise<Record<string, string>>
  /**
   * Whether RAM can be mapped from a saved machine without giving the VMM the means to change it for all others. Where it can't
   * (QEMU before 8.2), mapping is for users who trust each other.
   */
  mapsReadOnly(): Promise<boolean>
  /** Boots a machine whose VMM has died, from its own disk: its files are there, its processes are not. Otherwise as `create`. */
  reboot(spec: VmmSpec, started: (identity: ProcessIdentity) => Promise<void>, signal?: AbortSignal): Promise<Vmm>
  /** Finds the VMM of a journaled machine again, or undefined when that process is gone. */
  adopt(spec: VmmSpec, identity: ProcessIdentity): Promise<Vmm | undefined>
}

/** Owns machines that nobody has asked for yet: ready ones, and those that become templates. No user has this id. */
export const NOBODY = 'u_000000000000'

export interface MachineSize {
  memoryMib: number
  vcpus: number
}

/** How much there may be of what machines take, resolved: no zero that means "derive it". */
export interface CapacityLimits extends MachineSize {
  machines: number
  /** A single machine may be no larger. */
  largest: MachineSize
  /** Stays free on the disk of the data folder. */
  minFreeDiskMib: number
  /** What a machine may be expected to write to it: its scratch disk, then its results. */
  expectedDiskMib: number
}

/** Room for a machine, counted until it is given back. The machines named, or those of the tasks named, are what it is for. */
export interface Claim extends MachineSize {
  ids: readonly string[]
}

/** What is left for further machines; negative where more is taken than there should be. */
export interface Room extends MachineSize {
  machines: number
  diskMib: number
}

export interface Shortage {
  of: 'machines' | 'memory' | 'vcpus' | 'disk'
  /** How much of what is missing, for people: `2 GiB`, `1 free machine`. */
  words: string
}

/** What machines may take of this host. The one place where that is counted. */
export interface Capacity {
  readonly limits: CapacityLimits
  /** Throws `machine_too_large` for a machine that could never start here, naming the field. */
  refuseTooLarge(size: MachineSize): void
  /** Counts a claim, whether there is room for it or not, until it is disposed of. */
  take(claim: Claim): Disposable
  /** Whether a machine's room is part of a claim. */
  isClaimed(machine: Pick<MachineInfo, 'id' | 'taskId'>): boolean
  /** What is left beside all that is there, but for these claims and their machines. */
  free(without?: readonly Claim[]): Room
  /** What is missing in `room` for all of these; undefined where they fit. */
  shortage(wanted: readonly MachineSize[], room: Room): Shortage | undefined
}

/** Whose machine it is, and where its guest's way out leads. */
export interface MachineUse {
  userId: string
  taskId: string | null
  /** Takes each egress connection of the guest; the gateway's end of the link. Null for a machine nobody uses yet: they wait. */
  egress: ((socket: Duplex) => void) | null
  /** Called with the updated info whenever the machine's state or phase changes. */
  onChange?: (info: MachineInfo) => void
}

export interface MachineOptions extends MachineUse {
  /** What a machine without a task may reach: journaled with it. */
  network?: NetworkPolicy
  /** The id to give it, for a caller that must know it before (its egress session names it); a fresh one otherwise. */
  id?: string
  memoryMib: number
  vcpus: number
  /** Start from this template, which is built first if it is missing. Otherwise from the plain one of this size if that is there, else by a boot. */
  template?: string
  /** Start as a copy of this machine, which must be suspended and stays so. */
  forkOf?: string
  signal?: AbortSignal
}

/** A booted machine whose agent has said hello. */
export interface Machine {
  readonly id: string
  readonly link: GuestLink
  /** Deadline factor of the engine it runs on. */
  readonly timeScale: number
  /** Its workspace is as its template left it, which has marked that as the state that changes are told from. */
  readonly hasBaseline: boolean
  /**
   * How its VMM was lost, of a machine that was taken up after that: while no orchestrator ran, or by `salvage`. It shows as suspended, and is
   * booted from its disk when it is resumed: its files are as they last reached the disk, its processes are gone. Undefined of others.
   */
  readonly crashed: string | undefined
  info(): MachineInfo
  /** Resolves with a sentence when the machine is gone for a reason other than `destroy`: VMM died, link lost. */
  readonly lost: Promise<string>
  dumpMemory(path: string): Promise<void>
  /** Kills the VMM and removes every trace. Idempotent, never rejects for a machine that is already gone. */
  destroy(): Promise<void>
}

export interface Machines extends AsyncDisposable {
  /** Saved machines that `create` starts from. */
  readonly templates: Templates
  /**
   * Starts a machine. Rejects with `setup_required`, `boot_failed`, `engine_failed`, `machine_too_large`, or `not_found` for a
   * template or machine to start from, after removing what it made.
   */
  create(options: MachineOptions): Promise<Machine>
  /** A machine that runs; undefined also for one that is suspended. */
  get(id: string): Machine | undefined
  list(): MachineInfo[]
  /**
   * Gives a machine that is there, from the ready pool or kept, to another use; one that is suspended is resumed first. What
   * used it before gets no more of its connections. Rejects with `conflict` where somebody else has it already; one that
   * can't be resumed stays what it was.
   */
  assign(id: string, use: MachineUse, signal?: AbortSignal): Promise<Machine>
  /** A machine that `reconcile` has taken up, suspended ones too. */
  find(id: string): Machine | undefined
  /** What a machine without a task may reach, as it was asked for. */
  networkOf(id: string): NetworkPolicy | undefined
  /** Gives a machine that was taken up to its use of before. */
  rejoin(id: string, use: Pick<MachineUse, 'egress' | 'onChange'>): Promise<void>
  /**
   * Takes up a lost machine from what is left on its disk: the machine it resolves with has `crashed`, and takes the place of the lost one. Rejects
   * with `not_found` where nothing is left, and with `conflict` for one that is not lost.
   */
  salvage(id: string): Promise<Machine>
  /**
   * Lets go of a machine and leaves it as it is, for the next orchestrator: suspended, or running. Requests to the model under way may end first,
   * for a bounded time.
   */
  leave(id: string): Promise<void>
  /** Keeps a machine whose task has ended: it is destroyed at `until`, and suspended while nobody uses it. */
  keep(id: string, until: Date): Promise<void>
  /**
   * Saves a machine to disk and frees its memory. Requests to the model under way may end first, for a bounded time. Its link
   * waits: who reads a process's output goes on after `resume`, without a gap. Rejects with `conflict` where its state or engine forbids
   * it, or somebody has a lease on it; a machine that could not be saved goes on.
   */
  suspend(id: string): Promise<void>
  /** Lets a suspended machine go on; resolves when its agent has answered. Idempotent. */
  resume(id: string, signal?: AbortSignal): Promise<void>
  /** Resumes a machine if it is suspended, and keeps it from being suspended until the lease is disposed of. */
  lease(id: string, signal?: AbortSignal): Promise<MachineLease>
  /** Destroys a machine under whoever uses it: its `lost` resolves with `reason`. */
  evict(id: string, reason: string): Promise<void>
  /** Calls `listener` on every change of any machine; returns the unsubscribe function. */
  watch(listener: (info: MachineInfo) => void): () => void
  /**
   * Takes up what a previous orchestrator left: machines of users run on or lie on the disk as they did. Everything else is removed: VMMs by
   * pid and start time, folders, disks. Returns the ids of the machines removed.
   */
  reconcile(claims?: Claims): Promise<string[]>
  /** What is left of machines that nobody owns any more; call it after `reconcile`. */
  leaks(): Promise<FoundLeak[]>
  /** The engine in use; chosen (and probed) on first call. */
  engine(): Promise<Engine>
}

/** What the tasks of a previous orchestrator say of its machines. */
export interface Claims {
  /** Machines whose tasks go on in them. */
  inUse: ReadonlySet<string>
  /** Kept machines that a task had taken over without beginning in them: the task that they are kept of. */
  givenBack: ReadonlyMap<string, string>
}

export interface MachineLease extends Disposable {
  machine: Machine
}

/** Saved machines that others start from. */
export interface Templates {
  list(): Promise<Template[]>
  /** Builds a template unless it is there and nothing it depends on has changed. Builds of the same one are one. */
  build(request: TemplateRequest, options?: { progress?: Progress; signal?: AbortSignal }): Promise<Template>
  /** Removes every size of a template. Machines that run from it go on. */
  remove(name: string): Promise<void>
  /**
   * Builds one of the plain templates that machines were booted for want of, if there are any; called when there is nothing
   * better to do. Never rejects.
   */
  buildWanted(): Promise<void>
}

/** A Claude Code (or other agent) that was started before its prompt is known. */
export interface WaitingAgent {
  execId: string
  sessionId: string
  /** Null where it is the agent's own default. */
  model: string | null
  credentialKind: 'api-key' | 'oauth'
  /** Resolves when its process has ended, or nothing can be heard of it: it is of no use then. */
  ended: Promise<void>
  /** Stops listening to it, for whoever reads its output from the beginning; `ended` says nothing any more. */
  release(): void
}

/** What a task needs of a ready machine. */
export interface ReadyWish {
  memoryMib: number
  vcpus: number
  /** Null for the plain one. */
  template: string | null
  /** Undefined where a waiting agent is of no use to the task. */
  agent: { model: string | null; credentialKind: 'api-key' | 'oauth' } | undefined
}

export interface ReadyMachine {
  id: string
  waiting: WaitingAgent | undefined
}

/** Machines that were started before anybody asked for them. */
export interface ReadyPool extends AsyncDisposable {
  /**
   * Takes a machine out of the pool, or undefined where none fits. At once, so that two tasks never get the same; `assign` it then. One with a
   * waiting agent is only given to those who can use that.
   */
  take(wish: ReadyWish): ReadyMachine | undefined
  /** How many are ready: without an agent, and with one that waits. */
  counts(): { machines: number; agents: number }
}

/** What a process that somebody talks to says; `exit`, with 128 + signal number where a signal ended it, comes last. */
export type ShellOutput = { kind: 'stdout' | 'stderr'; data: Buffer } | { kind: 'exit'; exitCode: number }

/** A process that somebody talks to. Disposing of it hangs up on it, and kills what does not end by that. */
export interface Shell extends AsyncDisposable {
  /** To be read once. Who reads slowly holds the process back. */
  output: AsyncIterable<ShellOutput>
  /** Resolves when the guest has taken it; await that before the next. */
  write(data: Buffer): Promise<void>
  /** Ends its input; a terminal hangs up. */
  end(): Promise<void>
  resize(size: TerminalSize): Promise<void>
}

/**
 * What people may do with machines: every call is scoped to `userId`, another user's machine is `not_found`. A machine that
 * runs a task can be looked into and destroyed (its task then fails, saying so). A suspended machine is resumed when it is used.
 */
export interface MachineAccess {
  /** Gives machines without a task that were taken up from a previous orchestrator their way out again. */
  recover(): Promise<void>
  list(userId: string): MachineInfo[]
  get(userId: string, id: string): MachineInfo
  /** Boots a machine without a task; resolves when it is ready. Rejects with `queue_full` where there is no room for it. */
  create(userId: string, request: MachineRequest, signal?: AbortSignal): Promise<MachineInfo>
  destroy(userId: string, id: string): Promise<void>
  suspend(userId: string, id: string): Promise<MachineInfo>
  resume(userId: string, id: string, signal?: AbortSignal): Promise<MachineInfo>
  /** Runs a command to its end; output is capped at 1 MiB per stream. */
  exec(userId: string, id: string, request: ExecRequest, signal?: AbortSignal): Promise<ExecResponse>
  /** The same, live. Ends after the `exit` piece; leaving early kills the command. */
  execStream(userId: string, id: string, request: ExecRequest, signal?: AbortSignal): AsyncIterable<ExecOutput>
  /** Starts a process to talk to. Its machine is not suspended for being idle until the shell is disposed of. */
  shell(userId: string, id: string, request: ShellRequest, signal?: AbortSignal): Promise<Shell>
  readFile(userId: string, id: string, path: string, signal?: AbortSignal): Promise<{ size: number; body: Readable }>
  writeFile(userId: string, id: string, path: string, body: Readable, signal?: AbortSignal): Promise<void>
}
