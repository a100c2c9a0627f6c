import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { GUEST_USER } from '../../src/link/constants.ts'
import { log, messageOf } from '../log.ts'

const POOL_SIZE = 12
/** Makes pipes, prints the descriptors of their reading ends, and holds them until its stdin ends. */
const HELPER = `$| = 1; for (1..${POOL_SIZE}) { pipe(my $r, my $w); push @held, $r, $w; print fileno($r), " " } print "\\n"; <STDIN>`

/** `ours` is the agent's end, `theirs` a descriptor for the child, to be closed once the child has it. */
export interface PipeEnds {
  ours: Socket
  theirs: number
}

/**
 * Pipes for the output and input of processes. What Node itself gives a child are sockets, which cannot be reopened: a
 * script's `echo … > /dev/stderr` fails with ENXIO. A pipe that root made cannot be reopened by another user, and a named one
 * blocks a reader that opens it late. So the pipes are made, ahead of time, by a process of the agent user (perl is part of
 * every Debian), from which this process takes them over by /proc.
 */
export class Pipes {
  /** Descriptors open for both directions. */
  #ready: number[] = []
  #making: Promise<void> | undefined
  readonly #switchUsers: boolean

  constructor(switchUsers: boolean) {
    this.#switchUsers = switchUsers
    this.#refill()
  }

  /** A pipe that the child writes. */
  async output(): Promise<PipeEnds> {
    const { ours, theirs } = reopen(await this.#take(), constants.O_RDONLY, constants.O_WRONLY)
    return { ours: new Socket({ fd: ours, readable: true, writable: false }), theirs }
  }

  /** A pipe that the child reads. */
  async input(): Promise<PipeEnds> {
    const { ours, theirs } = reopen(await this.#take(), constants.O_WRONLY, constants.O_RDONLY)
    return { ours: new Socket({ fd: ours, readable: false, writable: true }), theirs }
  }

  async #take(): Promise<number> {
    for (;;) {
      const pipe = this.#ready.shift()
      this.#refill()
      if (pipe !== undefined) return pipe
      await this.#making
    }
  }

  #refill(): void {
    if (this.#making !== undefined || this.#ready.length > POOL_SIZE / 2) return
    this.#making = this.#make().finally(() => (this.#making = undefined))
    // Whoever waits for pipes is told; ahead of time, it is only said.
    this.#making.catch((error: unknown) => log(`pipes: ${messageOf(error)}`))
  }

  async #make(): Promise<void> {
    const { uid, gid } = GUEST_USER
    const helper = spawn('perl', ['-e', HELPER], {
      stdio: ['pipe', 'pipe', 'inherit'],
      ...(this.#switchUsers ? { uid, gid } : {}),
    })
    try {
      helper.stdin.on('error', () => undefined)
      await once(helper, 'spawn')
      const [line] = (await Promise.race([once(helper.stdout, 'data'), once(helper, 'exit').then(() => [])])) as [
        Buffer?,
      ]
      const numbers = line?.toString('latin1').trim().split(' ') ?? []
      for (const number of numbers) this.#ready.push(openSync(`/proc/${helper.pid}/fd/${number}`, constants.O_RDWR))
      if (numbers.length === 0) throw new Error('perl made no pipes')
    } finally {
      helper.stdin.destroy()
    }
  }
}

/** Opens both ends anew, each with flags of its own: only ours must not block. Closes `pipe`, so that ends can be seen. */
function reopen(pipe: number, ourMode: number, theirMode: number): { ours: number; theirs: number } {
  const path = `/proc/self/fd/${pipe}`
  const ours = openSync(path, ourMode | constants.O_NONBLOCK)
  const theirs = openSync(path, theirMode)
  closeSync(pipe)
  return { ours, theirs }
}
