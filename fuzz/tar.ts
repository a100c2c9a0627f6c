import type { Random } from './random.ts'

/** One entry of an archive; what is left out is right. */
interface Entry {
  name: string
  type: string
  content: Buffer
  /** What its header claims. */
  size?: number
  /** Records of an extended header before it. */
  extended?: Record<string, string>
}

const BLOCK = 512

function header({ name, type, content, size = content.length }: Entry, random: Random): Buffer {
  const block = Buffer.alloc(BLOCK)
  block.write(name, 0, 100)
  block.write('0000644\0' + '0000000\0'.repeat(2), 100)
  block.write(`${size.toString(8).padStart(11, '0').slice(-11)}\0${'0'.repeat(11)}\0`, 124)
  block.write(' '.repeat(8), 148)
  block.write(type, 156)
  if (type === '1' || type === '2') block.write('/etc/passwd', 157)
  block.write(random.chance(0.9) ? 'ustar\x0000' : 'ustar  \0', 257, 'latin1')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)])
}

function records(fields: Record<string, string>): Buffer {
  const made = Object.entries(fields).map(([key, value]) => {
    const body = Buffer.from(` ${key}=${value}\n`)
    let length = body.length + 1
    while (String(length).length + body.length !== length) length += 1
    return Buffer.concat([Buffer.from(String(length)), body])
  })
  return Buffer.concat(made)
}

function encode(entry: Entry, random: Random): Buffer {
  const before = entry.extended === undefined ? [] : [encode(extendedEntry(entry.extended), random)]
  return Buffer.concat([...before, header(entry, random), padded(entry.content)])
}

function extendedEntry(fields: Record<string, string>): Entry {
  return { name: 'PaxHeaders/x', type: 'x', content: records(fields) }
}

/** An archive of entries of every kind, as an honest tar writes it but for its lies: their names are of `names`, and others that lead elsewhere. */
export function makeTar(random: Random, names: readonly string[]): Buffer {
  const name = () => random.pick([random.pick(names), random.pick(names), random.pick(ELSEWHERE)])
  const entries = random.list(random.below(8), (): Entry => {
    const type = random.chance(0.7)
      ? '0'
      : random.pick(['1', '2', '3', '4', '5', '6', '7', 'g', 'S', 'L', 'K', 'V', '\0'])
    const content = Buffer.alloc(type === '0' ? random.size(3000) : 0, random.below(256))
    const entry: Entry = { name: name(), type, content }
    if (random.chance(0.4)) entry.extended = extendedFields(random, name(), content.length)
    if (random.chance(0.05)) entry.size = random.pick([0, 1, 511, 512, 513, 2 ** 30, 2 ** 33 - 1])
    return entry
  })
  return Buffer.concat([
    ...entries.map((entry) => encode(entry, random)),
    Buffer.alloc(random.pick([0, 512, 1024, 10_240])),
  ])
}

function extendedFields(random: Random, path: string, size: number): Record<string, string> {
  const all: Record<string, string> = {
    path,
    size: String(random.chance(0.8) ? size : random.pick([-1, 0, 1, 2 ** 40, 1e300, Number.NaN])),
    linkpath: '/etc/shadow',
    mtime: '1700000000.123456789',
    'GNU.sparse.realsize': '1099511627776',
    'SCHILY.xattr.user.x': random.text(50),
  }
  return Object.fromEntries(Object.entries(all).filter(() => random.chance(0.5)))
}

/** Names that must lead nowhere. */
export const ELSEWHERE = [
  ...'../escape /etc/passwd a/../../escape ./a/./b a//b .. . a\\..\\b C:\\x A .git/config con a:b -rf ~ é e\u0301'.split(
    ' ',
  ),
  '',
  'a\nb',
  'a\u0001',
  '\u202etxt',
  'n'.repeat(255),
  'n'.repeat(256),
  'd/'.repeat(40),
]
