import { rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { killMachineProcesses } from '../kill.ts'
import { isRunning, untilGone } from '../process-identity.ts'
import type { ProcessIdentity, Vmm } from '../types.ts'
import { CONSOLE_BYTES } from './args.ts'
import { FILES } from './disk-folder.ts'
import { dumpGuestMemory } from './dump.ts'
import type { MemoryFile } from './memory.ts'
import type { Qmp } from './qmp.ts'
import { saveMachine } from './save.ts'
import { untilSettled } from './settle.ts'

/** How the guest itself ended the machine: QEMU's `ShutdownCause`, for people. */
const GUEST_STOPS: Record<string, string> = {
  'guest-shutdown': 'the guest powered itself off',
  'guest-reset': "the guest's kernel crashed or rebooted",
  'guest-panic': "the guest's kernel crashed",
}

const Shutdown = z.object({ reason: z.string() })
/** What the guest's init prints before it hands over to the agent. */
const INIT_DONE = 'vivarium-init: starting the agent'
const CONSOLE_POLL_MS = 100

/** What must be free before a guest that stands still for want of it goes on: it has more to write. */
const ROOM_BYTES = 16 * 1024 * 1024
const ROOM_POLL_MS = 1000

const PortChange = z.object({ id: z.string(), open: z.boolean() })
const Status = z.object({ status: z.string() })

/** From parking to rest, with hardware virtualisation. */
const SETTLE_DEADLINE_MS = 10_000

export interface QemuVmmOptions {
  id: string
  identity: ProcessIdentity
  uid: number | undefined
  runDir: string
  diskDir: string
  memoryMib: number
  memoryFile: MemoryFile
  /** Factor on deadlines that wait for guest code. */
  timeScale: number
  qmp: Qmp
  /** Its guest has yet to boot. */
  booting: boolean
  /** How the process ended, where it is our child; undefined for one that is adopted, which is watched. */
  ended: Promise<string> | undefined
}

/** A running QEMU, watched through its monitor. */
export class QemuVmm implements Vmm {
  readonly identity: ProcessIdentity
  readonly exited: Promise<string>
  readonly guestUp: Promise<void>
  readonly #options: QemuVmmOptions
  #console = Buffer.alloc(0)
  /** Why we end it, when it did not end by itself. */
  #reason: string | undefined
  #killed: Promise<void> | undefined
  /** Why its processors stand still. */
  #stall: string | undefined
  #onStall: (why: string | undefined) => void = () => {}

  constructor(options: QemuVmmOptions) {
    this.#options = options
    this.identity = options.identity
    this.exited = this.#watchProcess()
    this.guestUp = options.booting ? this.#watchBoot() : Promise.resolve()
    const { qmp } = options
    qmp.on('qemu:SHUTDOWN', (data) => {
      const reason = Shutdown.safeParse(data).data?.reason ?? ''
      this.#stop(GUEST_STOPS[reason] ?? `it was told to stop (${reason})`)
    })
    qmp.on('qemu:STOP', () => void this.checkStatus())
  }

  /** Whether it has not yet taken up all of what it was to go on from. */
  async isIncoming(): Promise<boolean> {
    const { status } = Status.parse(await this.#options.qmp.execute('query-status'))
    return status === 'inmigrate'
  }

  /** Ends the machine if its processors have stopped for good, e.g. because virtualisation failed under them. */
  async checkStatus(): Promise<void> {
    const answer = await this.#options.qmp.execute('query-status').catch(() => undefined) // then it ends by itself
    const status = Status.safeParse(answer).data
    if (status?.status === 'internal-error') this.#stop('the virtual processor failed (QEMU: internal-error)')
    if (status?.status === 'io-error' && this.#stall === undefined) void this.#waitForRoom()
    if (status?.status === 'shutdown') this.#stop('the guest powered itself off or crashed')
  }

  onStall(listener: (why: string | undefined) => void): void {
    this.#onStall = listener
    if (this.#stall !== undefined) listener(this.#stall)
  }

  async consoleTail(): Promise<string> {
    // QEMU forgets what it hands out, so what was read before is kept here.
    const fresh = await this.#options.qmp
      .execute('ringbuf-read', { device: 'console', size: CONSOLE_BYTES, format: 'base64' })
      .catch(() => undefined) // QEMU is gone: what we have is all there is
    const bytes = Buffer.concat([this.#console, Buffer.from(z.string().safeParse(fresh).data ?? '', 'base64')])
    this.#console = bytes.subarray(Math.max(0, bytes.length - CONSOLE_BYTES))
    return this.#console.toString('utf8')
  }

  dumpMemory(path: string): Promise<void> {
    return dumpGuestMemory(this.#options.qmp, this.#options.runDir, this.#options.uid, path)
  }

  settled(signal: AbortSignal): Promise<void> {
    const { qmp, timeScale } = this.#options
    return untilSettled(qmp, this.identity.pid, SETTLE_DEADLINE_MS * timeScale, signal)
  }

  async pause(): Promise<void> {
    await this.#options.qmp.execute('stop')
  }

  async resume(): Promise<void> {
    // What it was saved as, if it was, no longer fits its disk from here on.
    await rm(join(this.#options.diskDir, FILES.state), { force: true })
    await this.#options.qmp.execute('cont')
  }

  save(signal?: AbortSignal): Promise<void> {
    return saveMachine(this.#options.qmp, this.#options, signal)
  }

  kill(): Promise<void> {
    this.#reason ??= 'it was destroyed'
    this.#killed ??= this.#kill().catch((error: unknown) => {
      this.#killed = undefined // the next call tries again
      throw error
    })
    return this.#killed
  }

  release(): void {
    this.#options.qmp.close()
  }

  async #kill(): Promise<void> {
    this.#options.qmp.close()
    await killMachineProcesses(this.#options)
    await this.exited
  }

  /** The host's disk is full: QEMU holds the guest's write, and makes it again on `cont`. Never rejects. */
  async #waitForRoom(): Promise<void> {
    const { qmp, diskDir } = this.#options
    this.#stall = `The disk of this host is full (${diskDir}): the machine stands still until there is room`
    this.#onStall(this.#stall)
    try {
      while (this.#stall !== undefined) {
        await Promise.race([sleep(ROOM_POLL_MS, undefined, { ref: false }), this.exited])
        const { bavail, bsize } = await statfs(diskDir)
        if (bavail * bsize < ROOM_BYTES) continue
        await qmp.execute('cont')
        // It stops again at once where that was not enough.
        await sleep(ROOM_POLL_MS, undefined, { ref: false })
        const status = Status.safeParse(await qmp.execute('query-status')).data?.status
        if (status !== 'io-error') this.#stall = undefined
      }
    } catch {
      this.#stall = undefined // QEMU has gone, and its disk perhaps: that is told elsewhere
    }
    this.#onStall(undefined)
  }

  #stop(reason: string): void {
    this.#reason ??= reason
    this.consoleTail()
      .then(() => this.kill())
      .catch(() => {}) // the owner's own kill() will meet the same error and report it
  }

  /** By init's own words on the console; the agent opening its port comes later, and would do if the words were missed. */
  async #watchBoot(): Promise<void> {
    const portOpened = new Promise<boolean>((resolve) => {
      this.#options.qmp.on('qemu:VSERPORT_CHANGE', (data) => {
        const change = PortChange.safeParse(data).data
        if (change?.id === 'control' && change.open) resolve(true)
      })
    })
    const ended = this.exited.then(() => false)
    let up: boolean | undefined
    while (up === undefined && !(await this.consoleTail()).includes(INIT_DONE))
      up = await Promise.race([portOpened, ended, sleep(CONSOLE_POLL_MS, undefined, { ref: false })])
    if (up === false) await new Promise(() => {}) // it never came up
  }

  async #watchProcess(): Promise<string> {
    const { ended, identity, qmp } = this.#options
    const how = await ended?.catch(() => undefined) // can't fail once it runs
    // The sandbox's helper was killed, or this is not our child: look for the process itself.
    if (await isRunning(identity)) await untilGone(identity)
    qmp.close()
    return `QEMU ended: ${this.#reason ?? how ?? 'its process is gone'}`
  }
}

/** Waits for `vmm` to end, at most `ms`; whether it did. */
export async function endsWithin(vmm: Vmm, ms: number, signal?: AbortSignal): Promise<boolean> {
  const timer = new AbortController()
  const stop = signal === undefined ? timer.signal : AbortSignal.any([timer.signal, signal])
  try {
    return await Promise.race([vmm.exited.then(() => true), sleep(ms, false, { signal: stop })])
  } finally {
    timer.abort()
  }
}
