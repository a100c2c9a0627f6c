import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readAsset } from '../assets.ts'
import { buildInitrd } from './initrd.ts'

let image: string
beforeEach(() => {
  image = mkdtempSync(join(tmpdir(), 'vivarium-initrd-'))
  mkdirSync(join(image, 'modules'))
  for (const name of ['01-b.ko', '00-a.ko']) writeFileSync(join(image, 'modules', name), name)
  writeFileSync(join(image, 'busybox'), 'a program')
})
afterEach(() => rmSync(image, { recursive: true }))

const program = {
  init: readAsset('guest/rootfs/init'),
  supervise: readAsset('guest/rootfs/supervise'),
  agent: Buffer.from('odd'),
}

test('cpio finds everything in the initramfs, folders before their files and modules in order', async () => {
  const { stdout } = await execa('cpio', ['-t', '--quiet'], { input: await buildInitrd(image, program) })
  const names = stdout.split('\n')
  expect(names).toEqual(expect.arrayContaining(['init', 'dev/console', 'bin/sh', 'vivarium/agent.mjs']))
  expect(names.filter((name) => name.startsWith('modules/'))).toEqual(['modules/00-a.ko', 'modules/01-b.ko'])
  const inFolders = names.filter((name) => name.includes('/'))
  for (const name of inFolders) expect(names.slice(0, names.indexOf(name))).toContain(dirname(name))
})

test('what comes out of the initramfs is what went in', async () => {
  const folder = join(image, 'unpacked')
  mkdirSync(folder)
  // Everything but the device, which only root may make.
  const unpack = ['-id', '--quiet', '--nonmatching', 'dev/*']
  await execa('cpio', unpack, { cwd: folder, input: await buildInitrd(image, program) })
  expect(readFileSync(join(folder, 'init')).equals(program.init)).toBe(true)
  expect(readFileSync(join(folder, 'vivarium/agent.mjs')).equals(program.agent)).toBe(true)
  expect(readFileSync(join(folder, 'modules/01-b.ko'), 'utf8')).toBe('01-b.ko')
  expect(readlinkSync(join(folder, 'bin/sh'))).toBe('busybox')
  expect(statSync(join(folder, 'init')).mode & 0o777).toBe(0o755)
})

test('the same program gives the same bytes, and every command that init uses is linked', async () => {
  const initrd = await buildInitrd(image, program)
  expect(initrd.equals(await buildInitrd(image, program))).toBe(true)
  const { stdout } = await execa('cpio', ['-t', '--quiet'], { input: initrd })
  const linked = stdout.split('\n').filter((name) => name.startsWith('bin/'))
  const used = [
    'mount',
    'insmod',
    'switch_root',
    'poweroff',
    'cat',
    'hostname',
    'usleep',
    'chown',
    'chmod',
    'mkdir',
    'cp',
    'ln',
  ]
  expect(linked).toEqual(expect.arrayContaining(used.map((name) => `bin/${name}`)))
})
