import { VivariumError } from '../contracts/errors.ts'

const BLOCK_BYTES = 512
const ZEROS = Buffer.alloc(BLOCK_BYTES)
const NOTHING = Buffer.alloc(0)
/** An extended header holds the path and the times of one file. */
const MAX_EXTENDED_BYTES = 16 * 1024

export interface TarLimits {
  /** Of the stream as a whole. */
  maxBytes: number
  /** Whether a regular file is taken. Its contents are then held whole. */
  wants: (path: string, size: number) => boolean
}

/**
 * The wanted regular files of a tar stream in the pax format (POSIX.1-2008, `pax`, "ustar Interchange Format"). Strict, and with bounds a general reader has
 * not: headers that hold for the rest of an archive, or megabytes of records, would let a guest keep this process busy for
 * hours. Whatever is no wanted file is skipped. Rejects with `guest_misbehaved` for what is no such archive, is cut off or too large.
 */
export async function* readTar(
  tar: AsyncIterable<Buffer>,
  { maxBytes, wants }: TarLimits,
): AsyncGenerator<{ path: string; content: Buffer }> {
  await using input = new Input(tar, maxBytes)
  let extended: Extended = {}
  for (let block = await input.block(); block !== undefined; block = await input.block()) {
    // Two of them mark the end, and padding may follow: all of it is read, so that its sender ends in peace.
    if (block.equals(ZEROS)) continue
    const header = readHeader(block)
    if (header.type === 'x') {
      if (header.size > MAX_EXTENDED_BYTES) throw misbehaved('has an extended header that is too large')
      extended = readExtended(await input.contents(header.size))
      continue
    }
    const { path = header.path, size = header.size } = extended
    extended = {}
    if (header.type === '0' && wants(path, size)) yield { path, content: await input.contents(size) }
    else await input.skip(padded(size))
  }
}

function misbehaved(what: string): VivariumError {
  return new VivariumError('guest_misbehaved', `The guest sent an archive that ${what}.`)
}

/** The bytes of a stream, by count. */
class Input implements AsyncDisposable {
  readonly #chunks: AsyncIterator<Buffer>
  #chunk: Buffer = NOTHING
  #room: number

  constructor(tar: AsyncIterable<Buffer>, maxBytes: number) {
    this.#chunks = tar[Symbol.asyncIterator]()
    this.#room = maxBytes
  }

  /** Undefined at the end. */
  async block(): Promise<Buffer | undefined> {
    if (this.#chunk.length === 0 && !(await this.#next())) return undefined
    return this.#take(BLOCK_BYTES)
  }

  /** `size` bytes, and what pads them to whole blocks. */
  async contents(size: number): Promise<Buffer> {
    const bytes = await this.#take(size)
    await this.skip(padded(size) - size)
    return bytes
  }

  async skip(count: number): Promise<void> {
    for (let left = count; left > 0;) left -= (await this.#some(left)).length
  }

  /** A source that is not read to its end is closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks.return?.()
  }

  async #take(count: number): Promise<Buffer> {
    const first = await this.#some(count)
    if (first.length === count) return first
    const pieces = [first]
    for (let left = count - first.length; left > 0;) {
      const piece = await this.#some(left)
      pieces.push(piece)
      left -= piece.length
    }
    return Buffer.concat(pieces)
  }

  /** Up to `count` bytes, and at least one where `count` is not 0. */
  async #some(count: number): Promise<Buffer> {
    if (count === 0) return NOTHING
    while (this.#chunk.length === 0) if (!(await this.#next())) throw misbehaved('is cut off')
    const some = this.#chunk.subarray(0, count)
    this.#chunk = this.#chunk.subarray(some.length)
    return some
  }

  async #next(): Promise<boolean> {
    const { value, done } = await this.#chunks.next()
    if (done === true) return false
    this.#chunk = value
    this.#room -= value.length
    if (this.#room < 0) throw misbehaved('is larger than it had announced')
    return true
  }
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES
}

interface Header {
  path: string
  size: number
  /** `0` for regular files, also where an old archive says nothing. */
  type: string
}

function readHeader(block: Buffer): Header {
  if (number(block, 148, 8) !== checksum(block)) throw misbehaved('is broken: the checksum of a header does not fit')
  const name = string(block, 0, 100)
  const prefix = block.toString('latin1', 257, 263) === 'ustar\0' ? string(block, 345, 155) : ''
  const type = string(block, 156, 1)
  return { path: prefix === '' ? name : `${prefix}/${name}`, size: number(block, 124, 12), type: type || '0' }
}

/** The sum of a header's bytes, those of the sum itself taken as spaces. */
function checksum(block: Buffer): number {
  let sum = 8 * 0x20
  for (let at = 0; at < BLOCK_BYTES; at += 1) if (at < 148 || at >= 156) sum += block[at] ?? 0
  return sum
}

/** A field of text, to its first NUL. */
function string(block: Buffer, at: number, length: number): string {
  const end = block.subarray(at, at + length).indexOf(0)
  return block.toString('utf8', at, end === -1 ? at + length : at + end)
}

/** A field of octal digits; a size that needs more stands in an extended header. */
function number(block: Buffer, at: number, length: number): number {
  const text = string(block, at, length).trim()
  if (!/^[0-7]*$/.test(text)) throw misbehaved('is broken: a number in a header is none')
  return Number.parseInt(text || '0', 8)
}

/** What an extended header says of the file behind it. */
interface Extended {
  path?: string
  size?: number
}

/** Records `LENGTH KEY=VALUE\n`, where the length counts all of it. */
function readExtended(bytes: Buffer): Extended {
  const extended: Extended = {}
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(0x20, at)
    const digits = bytes.toString('latin1', at, Math.max(at, space))
    const end = at + Number(/^[1-9]\d{0,5}$/.test(digits) ? digits : Number.NaN)
    const equals = bytes.indexOf(0x3d, space)
    // Also where the length is none.
    if (!(end <= bytes.length) || equals === -1 || equals >= end || bytes[end - 1] !== 0x0a)
      throw misbehaved('is broken: an extended header has records that are none')
    const key = bytes.toString('utf8', space + 1, equals)
    const value = bytes.toString('utf8', equals + 1, end - 1)
    if (key === 'path' && value !== '') extended.path = value
    if (key === 'size') extended.size = wholeNumber(value)
    at = end
  }
  return extended
}

function wholeNumber(text: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(value)) throw misbehaved('is broken: the size of a file is none')
  return value
}
