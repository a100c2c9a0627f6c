import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeRootDisk, makeScratchDisk } from './disks.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vivarium-disks-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const fsck = (disk: string) =>
  execa('e2fsck', ['-f', '-n', disk], { env: { PATH: `${process.env['PATH']}:/usr/sbin` } })

test('a scratch disk is sound, sparse and complete: nothing is left for the guest to finish', async () => {
  const disk = join(folder, 'scratch.ext4')
  await makeScratchDisk(disk, 8192)
  await fsck(disk)
  const { size, blocks } = statSync(disk)
  expect(size).toBe(8192 * 1024 * 1024)
  expect(blocks * 512).toBeLessThan(4 * 1024 * 1024)
  const { stdout } = await execa('/usr/sbin/dumpe2fs', [disk], { stderr: 'ignore' })
  // By its journal a machine that dies leaves all but its last seconds.
  expect(stdout).toMatch(/has_journal/)
  expect(stdout).not.toMatch(/metadata_csum/)
  expect(stdout.match(/^Group \d+:/gm)?.length).toBe(stdout.match(/ITABLE_ZEROED/g)?.length)
})

test('the same files give the same root disk, whenever they were written', async () => {
  const disks = [1, 2].map(async (run) => {
    const root = join(folder, `root${run}`)
    mkdirSync(join(root, 'etc'), { recursive: true })
    for (const name of ['a', 'b', 'c']) writeFileSync(join(root, 'etc', name), name.repeat(5000))
    const disk = join(folder, `root${run}.ext4`)
    await makeRootDisk(root, disk, undefined)
    await fsck(disk)
    return readFileSync(disk)
  })
  const [first, second] = [await disks[0], await disks[1]]
  expect(first !== undefined && second !== undefined && first.equals(second)).toBe(true)
})
