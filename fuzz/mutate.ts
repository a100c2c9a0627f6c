import type { Random } from './random.ts'

/** Values at which lengths and counts go wrong. */
const NUMBERS = [
  0, 1, 2, 5, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x10000, 0x10001, 0x7fffffff, 0x80000000, 0xffffffff,
]

/** Words of the formats that guests speak. */
const WORDS = [
  ...'null true -1 1e400 9007199254740993 "" [] {} "__proto__": ../ / ready path= size= "type": "end":true'.split(' '),
  '\n',
  '\r\n',
  'VIVARIUM/1 hello ',
  'ustar\0',
].map((word) => Buffer.from(word))

type Change = (bytes: Buffer, random: Random, others: readonly Buffer[]) => Buffer

function splice(bytes: Buffer, at: number, removed: number, added: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + removed)])
}

function place(bytes: Buffer, random: Random): { at: number; count: number } {
  const at = random.below(bytes.length + 1)
  return { at, count: Math.min(bytes.length - at, random.size(1024)) }
}

const CHANGES: Change[] = [
  function flipBit(bytes, random) {
    const at = random.below(bytes.length)
    return splice(bytes, at, 1, Buffer.from([(bytes[at] ?? 0) ^ (1 << random.below(8))]))
  },
  function setByte(bytes, random) {
    return splice(bytes, random.below(bytes.length), 1, random.bytes(1))
  },
  function setNumber(bytes, random) {
    const number = Buffer.alloc(4)
    number.writeUInt32BE(random.pick(NUMBERS))
    return splice(bytes, random.below(bytes.length), 4, number)
  },
  function insertWord(bytes, random) {
    return splice(bytes, place(bytes, random).at, 0, random.pick(WORDS))
  },
  function insertNoise(bytes, random) {
    return splice(bytes, place(bytes, random).at, 0, random.bytes(random.size(256)))
  },
  function remove(bytes, random) {
    const { at, count } = place(bytes, random)
    return splice(bytes, at, count, Buffer.alloc(0))
  },
  function repeat(bytes, random) {
    const { at, count } = place(bytes, random)
    const times = random.size(64)
    return splice(bytes, at, 0, Buffer.concat(random.list(times, () => bytes.subarray(at, at + count))))
  },
  function move(bytes, random) {
    const { at, count } = place(bytes, random)
    const without = splice(bytes, at, count, Buffer.alloc(0))
    return splice(without, random.below(without.length + 1), 0, bytes.subarray(at, at + count))
  },
  function cutOff(bytes, random) {
    return bytes.subarray(0, random.below(bytes.length + 1))
  },
  function cross(bytes, random, others) {
    const other = others[random.below(others.length)] ?? bytes
    const { at, count } = place(other, random)
    return splice(bytes, place(bytes, random).at, 0, other.subarray(at, at + count))
  },
]

/** Changes bytes in one to eight ways; pieces of `others` may come into them. */
export function mutate(bytes: Buffer, random: Random, others: readonly Buffer[] = []): Buffer {
  return random
    .list(random.between(1, 8), () => random.pick(CHANGES))
    .reduce((mutated, change) => (mutated.length === 0 ? random.bytes(4) : change(mutated, random, others)), bytes)
}

/** Cuts bytes into pieces as a stream might: single bytes, a few, or many at once. An empty one now and then. */
export function cut(bytes: Buffer, random: Random): Buffer[] {
  // Single bytes take their time.
  const largest = random.pick([bytes.length < 2000 ? 1 : 300, 7, 512, 4096, 65_536, Infinity])
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const end = largest === Infinity ? bytes.length : at + random.between(largest === 1 ? 1 : 0, largest)
    pieces.push(bytes.subarray(at, end))
    at = end
  }
  return pieces
}
