import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { VivariumError } from '../contracts/errors.ts'
import { createDiskBlobs } from './disk.ts'
import type { Blobs } from './types.ts'

let dir: string
let blobs: Blobs

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vivarium-blobs-'))
  blobs = await createDiskBlobs(join(dir, 'blobs'))
})

afterEach(() => rm(dir, { recursive: true, force: true }))

async function content(key: string, range?: { start: number; end: number }): Promise<string | undefined> {
  const body = await blobs.get(key, range)
  return body && (await buffer(body)).toString('latin1')
}

/** Every file and folder below the blobs' folder. */
const everything = async () => (await readdir(join(dir, 'blobs'), { recursive: true })).toSorted()

test('what was put comes back byte for byte', async () => {
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251))
  expect(await blobs.put('results/t_1/a b/ü\n.bin', bytes)).toBe(bytes.length)
  expect(await content('results/t_1/a b/ü\n.bin')).toBe(bytes.toString('latin1'))
  expect(await blobs.size('results/t_1/a b/ü\n.bin')).toBe(bytes.length)
  expect(await blobs.put('stream', Readable.from([Buffer.from('one '), Buffer.from('two')]))).toBe(7)
  expect(await content('stream')).toBe('one two')
  expect(await blobs.put('empty', Buffer.alloc(0))).toBe(0)
  expect(await content('empty')).toBe('')
})

test('a second put replaces the first', async () => {
  await blobs.put('a/b', Buffer.from('first, longer'))
  await blobs.put('a/b', Buffer.from('second'))
  expect(await content('a/b')).toBe('second')
})

test('a missing key, a folder and a key below a missing folder are not there', async () => {
  await blobs.put('a/b', Buffer.from('x'))
  for (const key of ['nothing', 'a', 'no/such/folder']) {
    expect(await blobs.get(key)).toBeUndefined()
    expect(await blobs.size(key)).toBeUndefined()
  }
})

test('ranges are inclusive; one that begins beyond the end is refused', async () => {
  await blobs.put('digits', Buffer.from('0123456789'))
  expect(await content('digits', { start: 2, end: 4 })).toBe('234')
  expect(await content('digits', { start: 9, end: 500 })).toBe('9')
  for (const range of [
    { start: 10, end: 12 },
    { start: 5, end: 4 },
  ]) {
    await expect(blobs.get('digits', range)).rejects.toMatchObject({ code: 'range_not_satisfiable' })
  }
})

test.each(['', '/etc/passwd', '../x', 'a/../../x', 'a//b', './a', 'a/.', 'a\0b', 'a\\b', 'x'.repeat(5000)])(
  'a key that is not confined is refused: %j',
  async (key) => {
    const refused = { code: 'invalid_request', field: 'key' }
    await expect(blobs.put(key, Buffer.from('x'))).rejects.toMatchObject(refused)
    await expect(blobs.get(key)).rejects.toMatchObject(refused)
    await expect(blobs.size(key)).rejects.toMatchObject(refused)
    await expect(blobs.removeAll(`${key}/`)).rejects.toMatchObject(refused)
    expect(await everything()).toEqual(['incoming', 'objects'])
  },
)

test('a name longer than the file system takes is refused and leaves nothing', async () => {
  await expect(blobs.put('x'.repeat(300), Buffer.from('x'))).rejects.toMatchObject({ code: 'invalid_request' })
  expect(await everything()).toEqual(['incoming', 'objects'])
})

test('a symbolic link in the tree leads nowhere', async () => {
  const outside = join(dir, 'outside')
  await mkdir(outside)
  await writeFile(join(outside, 'secret'), 'secret')
  const objects = join(dir, 'blobs', 'objects')
  await symlink(outside, join(objects, 'folder'))
  await symlink(join(outside, 'secret'), join(objects, 'file'))

  await expect(blobs.get('folder/secret')).rejects.toMatchObject({ code: 'conflict' })
  await expect(blobs.size('folder/secret')).rejects.toMatchObject({ code: 'conflict' })
  await expect(blobs.put('folder/new', Buffer.from('x'))).rejects.toMatchObject({ code: 'conflict' })
  await expect(blobs.removeAll('folder/deeper/')).rejects.toMatchObject({ code: 'conflict' })
  await expect(blobs.get('file')).rejects.toThrow(VivariumError)
  await blobs.put('file', Buffer.from('ours'))
  await expect(blobs.removeAll('folder/')).rejects.toMatchObject({ code: 'conflict' })
  expect(await readdir(outside)).toEqual(['secret'])
  expect(await readFile(join(outside, 'secret'), 'utf8')).toBe('secret')
  expect(await content('file')).toBe('ours')
})

test('a body beyond maxBytes leaves nothing, and its source is closed', async () => {
  const endless = Readable.from(
    (function* () {
      for (;;) yield Buffer.alloc(1000)
    })(),
  )
  await expect(blobs.put('a/b', endless, { maxBytes: 10_000 })).rejects.toMatchObject({ code: 'too_large' })
  expect(endless.destroyed).toBe(true)
  expect(await everything()).toEqual(['incoming', 'objects'])
  expect(await blobs.put('a/b', Buffer.alloc(10_000), { maxBytes: 10_000 })).toBe(10_000)
})

test('a body that breaks off leaves what was there before, and says why itself', async () => {
  await blobs.put('a', Buffer.from('before'))
  const broken = Readable.from(
    (async function* () {
      yield Buffer.from('half')
      throw new VivariumError('guest_lost', 'The machine is gone.')
    })(),
  )
  await expect(blobs.put('a', broken)).rejects.toMatchObject({ code: 'guest_lost' })
  expect(await content('a')).toBe('before')
  expect(await everything()).toEqual(['incoming', 'objects', 'objects/a'])
})

test('a key cannot be both a file and a folder', async () => {
  await blobs.put('a', Buffer.from('x'))
  await expect(blobs.put('a/b', Buffer.from('x'))).rejects.toMatchObject({ code: 'conflict' })
  await blobs.put('c/d', Buffer.from('x'))
  await expect(blobs.put('c', Buffer.from('x'))).rejects.toMatchObject({ code: 'conflict' })
  expect(await everything()).toEqual(['incoming', 'objects', 'objects/a', 'objects/c', 'objects/c/d'])
})

test('removeAll removes what lies below a prefix and nothing else', async () => {
  for (const key of ['t/1/a', 't/1/b/c', 't/10/a']) await blobs.put(key, Buffer.from('x'))
  await blobs.removeAll('t/1/')
  await blobs.removeAll('t/missing/')
  await blobs.removeAll('missing/too/')
  expect(await everything()).toEqual(['incoming', 'objects', 'objects/t', 'objects/t/10', 'objects/t/10/a'])
  await expect(blobs.removeAll('t')).rejects.toThrow(VivariumError)
  expect(await blobs.size('t/10/a')).toBe(1)
})

test('many puts into the same new folders at once all succeed', async () => {
  await Promise.all(Array.from({ length: 50 }, (_, i) => blobs.put(`x/y/z/${i % 5}/${i}`, Buffer.from(`${i}`))))
  expect(await content('x/y/z/4/49')).toBe('49')
})

test('half-written files of a killed process are removed at start; whole ones stay', async () => {
  await blobs.put('whole', Buffer.from('x'))
  await writeFile(join(dir, 'blobs', 'incoming', 'half'), 'ha')
  blobs = await createDiskBlobs(join(dir, 'blobs'))
  expect(await everything()).toEqual(['incoming', 'objects', 'objects/whole'])
})
