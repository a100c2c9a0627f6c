import { PassThrough, Readable } from 'node:stream'
import { expect, test } from 'vitest'
import { pack } from 'tar-stream'
import type { Header } from 'tar-stream'
import type { Change } from '../link/types.ts'
import { collect } from './collect.ts'
import { mimeType } from './mime-type.ts'
import { FakeGuest } from './testing/fake-guest.ts'
import { FakeBlobs, SETTINGS } from './testing/fake-house.ts'

const MIB = 1024 * 1024
const TASK = 't_0123456789ab'

async function collectFrom(guest: FakeGuest, settings: Partial<typeof SETTINGS> = {}) {
  const blobs = new FakeBlobs()
  const collected = await collect({
    taskId: TASK,
    link: guest.link(),
    blobs,
    settings: { ...SETTINGS, ...settings },
    transcriptPath: '/home/agent/transcript.jsonl',
    signal: AbortSignal.timeout(5000),
  })
  const stored = [...blobs.bytes.keys()].toSorted()
  return { ...collected, stored, paths: collected.files.map((file) => file.path), blobs }
}

function changed(path: string, fields: Partial<Change> = {}): Change {
  return { path, kind: 'created', type: 'file', size: 1, ...fields }
}

/** A tar of entries that a guest made up. */
function tarOf(...entries: [Partial<Header> & { name: string }, string?][]): Readable {
  const tar = pack()
  for (const [header, content = ''] of entries) tar.entry(header, content)
  tar.finalize()
  return tar.pipe(new PassThrough())
}

test('files come back whole with their folders, small ones and large ones, with patch and transcript', async () => {
  const guest = new FakeGuest()
  guest.write('deep/er/still/a.txt', 'a')
  guest.write('big.bin', Buffer.alloc(9 * MIB, 7))
  for (let n = 0; n < 40; n += 1) guest.write(`many/${n}`, 'x'.repeat(3 * MIB - n))
  guest.patch = 'diff'
  guest.files.set('/home/agent/transcript.jsonl', Buffer.from('{}'))
  const { paths, problems, patchBytes, blobs } = await collectFrom(guest, { maxResultBytes: 200 * MIB })
  expect(problems).toEqual([])
  expect(paths).toHaveLength(42)
  expect(blobs.bytes.get(`results/${TASK}/files/deep/er/still/a.txt`)?.toString()).toBe('a')
  expect(blobs.bytes.get(`results/${TASK}/files/big.bin`)?.equals(Buffer.alloc(9 * MIB, 7))).toBe(true)
  expect([patchBytes, blobs.bytes.get(`results/${TASK}/transcript.jsonl`)?.toString()]).toEqual([4, '{}'])
})

test('caches, deleted files, links and paths that leave the workspace are left out, and said', async () => {
  const guest = new FakeGuest()
  guest.write('ok.txt', 'ok')
  guest.changes.push(
    changed('node_modules/x/index.js'),
    changed('a/.git/config'),
    changed('a/b.pyc'),
    changed('gone', { kind: 'deleted' }),
    changed('link', { type: 'symlink' }),
    changed('../../etc/passwd'),
    changed('/etc/shadow'),
    changed('a/./b'),
    changed('a\\..\\b'),
    changed('n'.repeat(256)),
    changed(Array<string>(750).fill('long').join('/')),
  )
  const { stored, problems } = await collectFrom(guest)
  expect(stored).toEqual([`results/${TASK}/files/ok.txt`])
  expect(problems.toSorted()).toEqual([
    '1 file was left out: a name too long.',
    '1 file was left out: a path too long.',
    '1 file was left out: not a regular file.',
    '4 files were left out: a path that leaves the workspace.',
  ])
})

test('an archive with other things than what was asked for gives nothing but what was', async () => {
  const guest = new FakeGuest()
  guest.changes.push(changed('asked'), changed('link'), changed('device'), changed('folder'))
  guest.tar = () =>
    tarOf(
      [{ name: '../../../etc/cron.d/evil' }, 'evil'],
      [{ name: '/etc/passwd' }, 'evil'],
      [{ name: 'not/asked' }, 'evil'],
      [{ name: 'link', type: 'symlink', linkname: '/etc/passwd' }],
      [{ name: 'device', type: 'character-device', devmajor: 1, devminor: 5 }],
      [{ name: 'folder', type: 'directory' }],
      [{ name: './asked' }, 'first'],
      [{ name: 'asked' }, 'second'],
    )
  const { stored, problems, blobs } = await collectFrom(guest)
  expect(stored).toEqual([`results/${TASK}/files/asked`])
  expect(blobs.bytes.get(stored[0] ?? '')?.toString()).toBe('first')
  expect(problems).toEqual([expect.stringMatching(/^3 of 4 files did not come back/)])
})

test('sizes are those of the bytes that came, not those that were claimed', async () => {
  const guest = new FakeGuest()
  guest.write('small', 'four')
  guest.changes = [changed('small', { size: 3_000_000 })]
  const { files } = await collectFrom(guest)
  expect(files).toEqual([{ path: 'small', size: 4, mimeType: 'text/plain' }])
})

test('results larger than the limit are cut off at whole files, and said', async () => {
  const guest = new FakeGuest()
  guest.write('a', 'x'.repeat(MIB))
  guest.write('b', 'x'.repeat(MIB))
  guest.write('c', 'x')
  guest.changes.push(changed('huge', { size: 1e15 }))
  const { paths, problems } = await collectFrom(guest, { maxResultBytes: 1.5 * MIB })
  expect(paths).toEqual(['a', 'c'])
  expect(problems).toEqual([expect.stringMatching(/2 of 4 files did not come back.*larger than the limit/)])
})

test('an archive that is broken, cut off or endless costs its files only', async () => {
  const archives = [
    () => Readable.from([Buffer.alloc(2048, 0xff)]),
    () => Readable.from([Buffer.concat([Buffer.from('asked'.padEnd(100, '\0')), Buffer.alloc(100)])]),
    () =>
      Readable.from(
        (function* () {
          for (;;) yield Buffer.alloc(MIB)
        })(),
      ),
  ]
  for (const archive of archives) {
    const guest = new FakeGuest()
    guest.changes.push(changed('asked'))
    guest.tar = archive
    guest.patch = 'diff'
    const { files, problems, patchBytes } = await collectFrom(guest)
    expect([files, patchBytes]).toEqual([[], 4])
    expect(problems).toEqual([expect.stringMatching(/^1 of 1 files did not come back\. \S/)])
  }
})

test('a header that announces a gigabyte does not make the host hold it', async () => {
  const guest = new FakeGuest()
  guest.changes.push(changed('asked'))
  let sent = 0
  guest.tar = () => {
    const header = Buffer.alloc(512)
    header.write('x'.padEnd(100, '\0'), 0)
    header.write('0000644\0', 100)
    header.write('0000000\0'.repeat(2), 108)
    header.write(`${(2 ** 30).toString(8).padStart(11, '0')}\0`, 124)
    header.write('00000000000\0        x', 136)
    header.write('ustar\x0000', 257)
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    return Readable.from(
      (function* () {
        yield header
        for (; sent < 2 ** 30; sent += MIB) yield Buffer.alloc(MIB)
      })(),
    )
  }
  const { problems } = await collectFrom(guest)
  expect(problems).toEqual([expect.stringMatching(/^1 of 1 files did not come back\. \S/)])
  expect(sent).toBeLessThan(256 * MIB)
})

test('a file that the store refuses does not cost the others', async () => {
  const guest = new FakeGuest()
  for (const name of ['a', 'b', 'c']) guest.write(name, name)
  const link = guest.link()
  const blobs = new FakeBlobs()
  const put = blobs.put.bind(blobs)
  blobs.put = async (key, body, options) => {
    if (key.endsWith('/b')) throw new Error('name refused')
    return put(key, body, options)
  }
  const signal = AbortSignal.timeout(5000)
  const { files, problems } = await collect({
    taskId: TASK,
    link,
    blobs,
    settings: SETTINGS,
    transcriptPath: undefined,
    signal,
  })
  expect(files.map((file) => file.path)).toEqual(['a', 'c'])
  expect(problems).toEqual(['1 of 3 files did not come back. name refused'])
})

test.each([
  ['photo.txt', '89504e470d0a1a0a', 'image/png'],
  ['photo.png', '3c68746d6c3e', 'text/plain'],
  ['a.jpg', 'ffd8ffe0', 'image/jpeg'],
  ['a.webp', '524946460000000057454250', 'image/webp'],
  ['a.avif', '0000001c6674797061766966', 'image/avif'],
  ['a.svg', '3c737667', 'image/svg+xml'],
  ['dir.json/constructor', '00ff', 'application/octet-stream'],
  ['README.md', '23', 'text/markdown'],
])('%s beginning with %s is %s', (path, hex, expected) => {
  expect(mimeType(path, Buffer.from(hex, 'hex'))).toBe(expected)
})
