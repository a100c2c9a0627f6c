import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { NetworkPolicy } from '../contracts/network.ts'
import type { GuestImage } from '../images/types.ts'
import { startSessionEarly } from '../link/preamble.ts'
import type { GuestLink } from '../link/types.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import type { Dependencies } from './dependencies.ts'
import { EgressPort } from './egress-port.ts'
import { makeFolders, makeRunFolder, removeFolders, type MachineFolders } from './folders.ts'
import type { Journal, JournalEntry, NewJournalEntry } from './journal.ts'
import { killMachineProcesses } from './kill.ts'
import { listenForVmm } from './sockets.ts'
import type { ProcessIdentity, VmmSpec } from './types.ts'

/** For a guest to answer on a connection that nobody uses yet; it may still have to boot. */
const GREET_MS = 60_000

/** In a run folder: where the host listens for its guest. */
const SOCKETS = ['control.sock', 'egress.sock'] as const

export interface LinkOptions {
  machineId: string
  /** Factor on deadlines that wait for guest code. */
  timeScale: number
  /** Begins silent: its guest comes when the link is woken. */
  silent: boolean
}

export interface HousingContext {
  journal: Journal
  timeScale: number
  linkFactory: (options: LinkOptions) => GuestLink
}

/** Where a VMM comes from: what all machines share. */
export interface SpecParts {
  image: GuestImage
  scratchBase: string
  memory: VmmSpec['memory']
}

/**
 * Everything a machine has but its VMM: its row in the journal, folders, sockets, the host's end of its link. It stays when
 * the VMM goes because the machine is suspended, and another one takes its place. Disposing removes all of it, whatever VMM
 * there is included.
 */
export class Housing implements AsyncDisposable {
  readonly id: string
  readonly link: GuestLink
  readonly egress: EgressPort
  readonly folders: MachineFolders
  readonly #entry: NewJournalEntry
  readonly #uid: number | undefined
  readonly #journal: Journal
  #identity: ProcessIdentity | undefined
  readonly #resources = new AsyncDisposableStack()
  #keepsDisk = false

  private constructor(entry: NewJournalEntry, uid: number | undefined, context: HousingContext, silent: boolean) {
    this.id = entry.id
    this.folders = { runDir: entry.runDir, diskDir: entry.diskDir }
    this.#entry = entry
    this.#uid = uid
    this.#journal = context.journal
    const greeting = { deadlineMs: GREET_MS * context.timeScale }
    this.egress = new EgressPort((socket) => startSessionEarly(socket, greeting))
    this.link = context.linkFactory({ machineId: entry.id, timeScale: context.timeScale, silent })
  }

  /** Writes a new machine down, then makes what it needs. What was made is removed where a step fails. */
  static async open(entry: NewJournalEntry, context: HousingContext): Promise<Housing> {
    const uid = await context.journal.add(entry)
    crashPoint('machine journaled')
    await using opened = new AsyncDisposableStack()
    const housing = opened.use(new Housing(entry, uid, context, false))
    await makeFolders(housing.folders, uid)
    await housing.#listen()
    crashPoint('machine folders made')
    opened.move()
    return housing
  }

  /**
   * The same for a machine of an earlier orchestrator, whose disk folder is there and stays where a step fails; so does its run folder, where its
   * VMM runs.
   */
  static async reopen(entry: JournalEntry, context: HousingContext, isRunning: boolean): Promise<Housing> {
    const housing = new Housing(entry, entry.uid, context, true)
    housing.#identity = isRunning ? entry.identity : undefined
    await using opened = new AsyncDisposableStack()
    opened.defer(() => housing.leave({ isRunning }))
    if (isRunning) {
      for (const name of SOCKETS) await rm(join(entry.runDir, name), { force: true })
    } else {
      await rm(entry.runDir, { recursive: true, force: true })
      await makeRunFolder(housing.folders.runDir, entry.uid)
    }
    await housing.#listen()
    opened.move()
    return housing
  }

  /** What the machine was made with, and depends on once it is saved. */
  get dependsOn(): Dependencies {
    return this.#entry.dependsOn
  }

  get network(): NetworkPolicy | undefined {
    return this.#entry.network
  }

  spec({ image, scratchBase, memory }: SpecParts): VmmSpec {
    const { memoryMib, vcpus } = this.#entry
    return { id: this.id, ...this.folders, image, scratchBase, memoryMib, vcpus, memory, uid: this.#uid }
  }

  /** Journals a VMM before its guest runs its first instruction. */
  async started(identity: ProcessIdentity): Promise<void> {
    this.#identity = identity
    crashPoint('machine created')
    await this.#journal.setRunning(this.id, identity)
    crashPoint('machine recorded')
  }

  /** Journals that the disk folder holds all of the machine, before its VMM goes. */
  async suspended(): Promise<void> {
    crashPoint('suspend saved')
    await this.#journal.setSuspended(this.id)
    crashPoint('suspend recorded')
  }

  /** The disk folder has another owner now. */
  giveDiskAway(): void {
    this.#keepsDisk = true
  }

  /** Closes what is open in this process; the rest stays, for `reopen`, but for a run folder that no VMM uses. */
  async leave({ isRunning }: { isRunning: boolean }): Promise<void> {
    await this.#close()
    if (!isRunning) await rm(this.folders.runDir, { recursive: true, force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close()
    // One step, so that the journal forgets a machine only when its processes and folders are truly gone.
    await killMachineProcesses({
      id: this.id,
      runDir: this.folders.runDir,
      identity: this.#identity,
      uid: this.#uid,
    })
    const { runDir, diskDir } = this.folders
    await removeFolders(this.#keepsDisk ? [runDir] : [runDir, diskDir])
    crashPoint('machine destroyed')
    await this.#journal.remove(this.id)
    crashPoint('machine forgotten')
  }

  async #close(): Promise<void> {
    await this.#resources.disposeAsync()
    await this.link[Symbol.asyncDispose]()
  }

  async #listen(): Promise<void> {
    const { runDir } = this.folders
    const control = (socket: Parameters<GuestLink['accept']>[0]) => this.link.accept(socket)
    const egress = (socket: Parameters<GuestLink['accept']>[0]) => this.egress.accept(socket)
    const [controlSocket, egressSocket] = SOCKETS
    this.#resources.use(await listenForVmm(join(runDir, controlSocket), this.#uid, control))
    this.#resources.use(await listenForVmm(join(runDir, egressSocket), this.#uid, egress))
  }
}
