import { mkdir, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createScratchDisk, takeScratchDisk } from './disks.ts'

const MIB = 1024 * 1024

/** An empty base, and the disk folders of a saved machine and of one that starts from it. */
async function setUp(savedFiles: Record<string, string>) {
  const root = await mkdtemp(join(tmpdir(), 'disks-'))
  onTestFinished(() => rm(root, { recursive: true }))
  const [base, saved, own] = ['base.raw', 'saved', 'own'].map((name) => join(root, name)) as [string, string, string]
  await writeFile(base, '')
  await truncate(base, 16 * MIB)
  await Promise.all([mkdir(saved), mkdir(own)])
  for (const [name, text] of Object.entries(savedFiles)) await writeFile(join(saved, name), text)
  return { base, saved, own }
}

test('a disk over a saved one shares it and takes no space of its own', async () => {
  const { base, saved, own } = await setUp({ 'scratch.qcow2': 'saved' })
  const layers = await takeScratchDisk(own, base, { folder: saved, disk: 'over' })
  expect(layers).toEqual({ base, layer: join(own, 'base.qcow2'), scratch: join(own, 'scratch.qcow2') })
  expect((await stat(join(own, 'base.qcow2'))).ino).toBe((await stat(join(saved, 'scratch.qcow2'))).ino)
  expect((await stat(layers.scratch)).blocks * 512).toBeLessThan(MIB)
})

test('a copy is written without the saved disk noticing, and lies over the same layer', async () => {
  const { base, saved, own } = await setUp({ 'scratch.qcow2': 'written', 'base.qcow2': 'below' })
  const layers = await takeScratchDisk(own, base, { folder: saved, disk: 'copy' })
  expect(layers.layer).toBe(join(own, 'base.qcow2'))
  await writeFile(layers.scratch, 'changed')
  expect(await readFile(join(saved, 'scratch.qcow2'), 'utf8')).toBe('written')
  expect(await readFile(join(own, 'base.qcow2'), 'utf8')).toBe('below')
})

test("a machine's own disk is taken as it lies there", async () => {
  const { base, saved } = await setUp({ 'scratch.qcow2': 'written' })
  const layers = await takeScratchDisk(saved, base, { folder: saved, disk: 'own' })
  expect(layers).toEqual({ base, layer: undefined, scratch: join(saved, 'scratch.qcow2') })
  expect(await readFile(layers.scratch, 'utf8')).toBe('written')
})

test('what has a layer already is refused as one; a folder without a disk is refused in words', async () => {
  const layered = await setUp({ 'scratch.qcow2': 'written', 'base.qcow2': 'below' })
  const over = (set: typeof layered) => takeScratchDisk(set.own, set.base, { folder: set.saved, disk: 'over' })
  await expect(over(layered)).rejects.toMatchObject({
    code: 'engine_failed',
    message: expect.stringContaining('can only be copied'),
  })
  await expect(over(await setUp({}))).rejects.toMatchObject({
    code: 'engine_failed',
    message: expect.stringContaining('ENOENT'),
  })
})

test('the empty disk is as large as its base, in whole sectors, and names no file below it', async () => {
  const { base, own } = await setUp({})
  await truncate(base, 3 * 1024 ** 4 + 1)
  const header = await readFile(await createScratchDisk(own, base))
  expect(header.subarray(0, 4)).toEqual(Buffer.from('QFI\xfb', 'latin1'))
  expect(header.readUInt32BE(4)).toBe(3)
  expect(header.readBigUInt64BE(8)).toBe(0n)
  expect(header.readBigUInt64BE(24)).toBe(BigInt(3 * 1024 ** 4 + 512))
})
