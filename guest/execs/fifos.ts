import { execFile } from 'node:child_process'
import { chownSync, closeSync, constants, mkdirSync, openSync, rmSync, unlinkSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { log, messageOf } from '../log.ts'

const POOL_SIZE = 12

/** A pipe: `ours` is the agent's end, `theirs` a descriptor for the child, to be closed once the child has it. */
export interface PipeEnds {
  ours: Socket
  theirs: number
}

/**
 * Named pipes for the output and input of processes. What Node itself gives a child are sockets, which cannot be reopened:
 * a script's `echo … > /dev/stderr` fails with ENXIO. Nor may another user reopen an anonymous pipe that root made. A named
 * pipe that belongs to the child's user behaves as scripts expect. Made ahead of time, since only `mkfifo` can.
 */
export class Fifos {
  #ready: string[] = []
  #next = 0
  #making: Promise<void> | undefined
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder, { recursive: true, mode: 0o711 })
    this.#refill()
  }

  /** Names of `count` fresh pipes. */
  async take(count: number): Promise<string[]> {
    while (this.#ready.length < count) await (this.#making ?? this.#make())
    const taken = this.#ready.splice(0, count)
    this.#refill()
    return taken
  }

  #refill(): void {
    if (this.#making !== undefined || this.#ready.length > POOL_SIZE / 2) return
    this.#make().catch((error: unknown) => log(`mkfifo: ${messageOf(error)}`))
  }

  #make(): Promise<void> {
    const paths = Array.from({ length: POOL_SIZE }, () => join(this.#folder, String(this.#next++)))
    this.#making = promisify(execFile)('mkfifo', ['-m', '600', ...paths])
      .then(() => void this.#ready.push(...paths))
      .finally(() => (this.#making = undefined))
    return this.#making
  }
}

interface Owner {
  uid: number
  gid: number
}

/** Opens a pipe that the child writes. `owner` may reopen it, e.g. as /dev/stderr. */
export function openOutput(path: string, owner: Owner | undefined): PipeEnds {
  if (owner !== undefined) chownSync(path, owner.uid, owner.gid)
  // Opening the reading end must not wait for a writer; the writing end then finds its reader.
  const reading = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const theirs = openSync(path, constants.O_WRONLY)
  unlinkSync(path)
  return { ours: new Socket({ fd: reading, readable: true, writable: false }), theirs }
}

/** Opens a pipe that the child reads. */
export function openInput(path: string, owner: Owner | undefined): PipeEnds {
  if (owner !== undefined) chownSync(path, owner.uid, owner.gid)
  // Opened for both, it waits for nobody; only so can a reading end be opened that blocks, as a child expects of its stdin.
  const both = openSync(path, constants.O_RDWR)
  const theirs = openSync(path, constants.O_RDONLY)
  const writing = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
  closeSync(both)
  unlinkSync(path)
  return { ours: new Socket({ fd: writing, readable: false, writable: true }), theirs }
}
