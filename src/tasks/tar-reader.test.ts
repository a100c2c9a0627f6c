import { expect, test } from 'vitest'
import { readTar } from './tar-reader.ts'

const BLOCK = 512

interface Entry {
  name: string
  type?: string
  content?: string | Buffer
  /** What the header says, where that is a lie. */
  size?: string
}

function header({ name, type = '0', size, content = '' }: Entry): Buffer {
  const block = Buffer.alloc(BLOCK)
  block.write(name, 0, 100)
  block.write(size ?? Buffer.byteLength(content).toString(8).padStart(11, '0'), 124, 12)
  block.write(' '.repeat(8), 148)
  block.write(type, 156)
  block.write('/etc/shadow', 157)
  block.write('ustar\x0000', 257)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

function tar(...entries: Entry[]): Buffer {
  const parts = entries.map((entry) => {
    const content = Buffer.from(entry.content ?? '')
    return [header(entry), content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)]
  })
  return Buffer.concat([...parts.flat(), Buffer.alloc(2 * BLOCK)])
}

/** An extended header of records `key=value`. */
function extended(fields: Record<string, string>, type = 'x'): Entry {
  const records = Object.entries(fields).map(([key, value]) => {
    const body = ` ${key}=${value}\n`
    let length = Buffer.byteLength(body) + 1
    while (String(length).length + Buffer.byteLength(body) !== length) length += 1
    return `${length}${body}`
  })
  return { name: 'PaxHeaders/x', type, content: records.join('') }
}

async function* inPieces(bytes: Buffer, size = bytes.length) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function read(bytes: Buffer, pieces?: number): Promise<Record<string, string>> {
  const limits = { maxBytes: 100_000_000, wants: (path: string) => path !== 'unwanted' }
  const files: Record<string, string> = {}
  for await (const { path, content } of readTar(inPieces(bytes, pieces), limits)) files[path] = content.toString()
  return files
}

test.each([1, 7, 511, 512, 513, 100_000])('files are the same in pieces of %i bytes', async (size) => {
  const content = 'x'.repeat(1500)
  const bytes = tar(
    { name: 'a', content },
    { name: 'unwanted', content },
    { name: 'empty' },
    { name: 'b', content: 'b' },
  )
  expect(await read(bytes, size)).toEqual({ a: content, empty: '', b: 'b' })
})

test('only regular files come out, whatever else an archive holds', async () => {
  const others = ['1', '2', '3', '4', '5', '6', '7', 'A', 'D', 'K', 'L', 'M', 'N', 'S', 'V', 'X', 'g', '!', '\xff']
  const entries = others.map((type, index): Entry => ({ name: `${index}`, type, content: 'of another kind' }))
  expect(await read(tar(...entries, { name: 'file', content: 'good' }, { name: 'old', type: '\0' }))).toEqual({
    file: 'good',
    old: '',
  })
})

test('an extended header gives the next entry its path and size, and holds for no other', async () => {
  const path = `${'long/'.repeat(100)}ü\n`
  const bytes = tar(
    extended({ path, size: '4', linkpath: '/etc/passwd', 'GNU.sparse.realsize': '9999999999' }),
    { name: 'short', size: '0'.repeat(11), content: 'four' },
    { name: 'next', content: 'next' },
  )
  expect(await read(bytes)).toEqual({ [path]: 'four', next: 'next' })
})

test('a header for the rest of an archive holds for nothing', async () => {
  const bytes = tar(extended({ path: 'everywhere', size: '0' }, 'g'), { name: 'own', content: 'own' })
  expect(await read(bytes)).toEqual({ own: 'own' })
})

test('headers of many records, each of which a general reader would copy for every entry, are refused at once', async () => {
  const many = Object.fromEntries(Array.from({ length: 2000 }, (_, index) => [`key${index}`, 'value']))
  await expect(read(tar(extended(many), { name: 'a' }))).rejects.toMatchObject({ code: 'guest_misbehaved' })
})

const LIES: [string, Buffer][] = [
  ['is cut off in a header', tar({ name: 'a', content: 'a' }).subarray(0, 100)],
  ['is cut off in a file', tar({ name: 'a', content: 'x'.repeat(5000) }).subarray(0, 2000)],
  ['has a wrong checksum', Buffer.from(tar({ name: 'a' }).fill('b', 0, 1))],
  ['has a size that is none', tar({ name: 'a', size: '99999999999' })],
  ['has a size in base 256', tar({ name: 'a', size: '\x80\0\0\0\0\0\0\0\0\0\x01' })],
  ['has a negative size', tar(extended({ size: '-1' }), { name: 'a' })],
  ['has a size beyond all numbers', tar(extended({ size: '9007199254740993' }), { name: 'a' })],
  ['has a record without a length', tar({ name: 'x', type: 'x', content: 'path=a\n' }, { name: 'a' })],
  ['has a record that is longer than its header', tar({ name: 'x', type: 'x', content: '99 path=a\n' }, { name: 'a' })],
  ['has a record of no length', tar({ name: 'x', type: 'x', content: '0 path=a\n' }, { name: 'a' })],
  ['has a record without a value', tar({ name: 'x', type: 'x', content: '8 patha\n' }, { name: 'a' })],
  ['announces an extended header of a gigabyte', tar({ name: 'x', type: 'x', size: '10000000000' })],
  ['announces more than may come', tar({ name: 'unwanted', size: '77777777777' })],
  ['is noise', Buffer.alloc(5000, 0x5a)],
]

test.each(LIES)('an archive that %s is misbehaviour', async (_what, bytes) => {
  const error: unknown = await read(bytes).catch((error: unknown) => error)
  expect(error).toMatchObject({
    code: 'guest_misbehaved',
    message: expect.stringMatching(/^The guest sent an archive/),
  })
})

test('one that never ends is cut off, and its source closed', async () => {
  let closed = false
  async function* endless() {
    try {
      for (;;) yield Buffer.alloc(64 * 1024)
    } finally {
      closed = true
    }
  }
  const files = readTar(endless(), { maxBytes: 10_000_000, wants: () => true })
  await expect(files.next()).rejects.toMatchObject({ code: 'guest_misbehaved' })
  expect(closed).toBe(true)
})
