import { mkdirSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { FRAME_HEADER_BYTES, FRAME_KIND, MAX_FRAME_BYTES } from '../../src/link/constants.ts'
import { log, messageOf } from '../log.ts'

const SEGMENT_BYTES = 256 * 1024
/** Above this, the oldest segments go to files; the live path, where the host keeps up, never touches the disk. */
const MEMORY_LOW_BYTES = 4 * 1024 * 1024
/** Above this the writer waits: also where the disk is full and nothing can be moved to files. */
const MEMORY_HIGH_BYTES = 8 * 1024 * 1024

interface Segment {
  start: number
  length: number
  /** Undefined once the segment is in its file. */
  bytes: Buffer | undefined
}

/**
 * Output of one exec, as frames, from the oldest byte the host has not acknowledged on. Readers start at any offset of
 * that range; writers ask `full` and are told by `onRoom` when to go on.
 */
export class Spool {
  #segments: Segment[] = []
  #start = 0
  #end = 0
  #inMemory = 0
  #finished = false
  #abandoned = false
  #spilling = false
  #waiting: (() => void)[] = []
  readonly #folder: string
  readonly #limitBytes: number
  readonly #onRoom: () => void

  /**
   * `limitBytes` unacknowledged make it full. `onRoom` is called whenever something was freed and there is room, also where
   * nobody had to wait.
   */
  constructor(folder: string, limitBytes: number, onRoom: () => void) {
    this.#folder = folder
    this.#limitBytes = limitBytes
    this.#onRoom = onRoom
  }

  get full(): boolean {
    return this.#end - this.#start >= this.#limitBytes || this.#inMemory >= MEMORY_HIGH_BYTES
  }

  get start(): number {
    return this.#start
  }

  get end(): number {
    return this.#end
  }

  /** Adds output, cut into frames. A frame never lies in two segments. */
  append(kind: keyof typeof FRAME_KIND, data: Buffer): void {
    for (let at = 0; at < data.length; at += MAX_FRAME_BYTES) {
      const payload = data.subarray(at, at + MAX_FRAME_BYTES)
      const { segment, bytes } = this.#segmentFor(FRAME_HEADER_BYTES + payload.length)
      bytes.writeUInt8(FRAME_KIND[kind], segment.length)
      bytes.writeUInt32BE(payload.length, segment.length + 1)
      payload.copy(bytes, segment.length + FRAME_HEADER_BYTES)
      segment.length += FRAME_HEADER_BYTES + payload.length
      this.#end = segment.start + segment.length
    }
    this.#wake()
    void this.#spill()
  }

  /** Whether a reader at `at` has read all there will ever be. */
  endsAt(at: number): boolean {
    return this.#finished && at === this.#end
  }

  /** Nothing more comes, not even an exit: readers are told so. */
  abandon(): void {
    this.#abandoned = true
    this.#wake()
  }

  /** Adds the last frame. */
  finish(exit: Buffer): void {
    this.append('exit', exit)
    this.#finished = true
    this.#wake()
  }

  /** Drops what lies before `to`. */
  ack(to: number): void {
    this.#start = Math.max(this.#start, Math.min(to, this.#end))
    for (let first = this.#segments[0]; first !== undefined; first = this.#segments[0]) {
      const open = this.#segments.length === 1 && !this.#finished
      if (open || first.start + first.length > this.#start) break
      this.#segments.shift()
      if (first.bytes === undefined) void rm(this.#file(first), { force: true })
      else this.#inMemory -= SEGMENT_BYTES
    }
    if (!this.full) this.#onRoom()
  }

  /** Bytes from `at` on, a segment's worth at most; waits for some; undefined at the end of a finished spool. Rejects if abandoned. */
  async read(at: number, signal: AbortSignal): Promise<Buffer | undefined> {
    while (at >= this.#end) {
      if (this.#abandoned) throw new Error('the process was lost')
      if (this.#finished || signal.aborted) return undefined
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
    const segment = this.#segments.find((segment) => at < segment.start + segment.length)
    if (segment === undefined || at < segment.start) throw new Error(`output before ${this.#start} is gone`)
    const bytes = segment.bytes ?? (await readFile(this.#file(segment)))
    return bytes.subarray(at - segment.start, segment.length)
  }

  #segmentFor(length: number): { segment: Segment; bytes: Buffer } {
    const last = this.#segments.at(-1)
    if (last?.bytes !== undefined && last.length + length <= SEGMENT_BYTES) return { segment: last, bytes: last.bytes }
    const bytes = Buffer.allocUnsafeSlow(SEGMENT_BYTES)
    const segment = { start: this.#end, length: 0, bytes }
    this.#segments.push(segment)
    this.#inMemory += SEGMENT_BYTES
    return { segment, bytes }
  }

  /** Moves the oldest whole segments to files while too much is in memory. */
  async #spill(): Promise<void> {
    if (this.#spilling || this.#inMemory <= MEMORY_LOW_BYTES) return
    this.#spilling = true
    try {
      mkdirSync(this.#folder, { recursive: true })
      while (this.#inMemory > MEMORY_LOW_BYTES) {
        const oldest = this.#segments.slice(0, -1).find((segment) => segment.bytes !== undefined)
        if (oldest?.bytes === undefined) break
        await writeFile(this.#file(oldest), oldest.bytes.subarray(0, oldest.length))
        if (this.#segments.includes(oldest)) {
          oldest.bytes = undefined
          this.#inMemory -= SEGMENT_BYTES
        } else await rm(this.#file(oldest), { force: true })
        if (!this.full) this.#onRoom()
      }
    } catch (error) {
      // A full disk: memory holds what there is, the writer waits at MEMORY_HIGH_BYTES until the host acknowledges.
      log(`spool: ${messageOf(error)}`)
    } finally {
      this.#spilling = false
    }
  }

  #file(segment: Segment): string {
    return join(this.#folder, String(segment.start))
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}
