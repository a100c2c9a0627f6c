import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { ProbeMemory } from './probe-memory.ts'

async function setUp() {
  const folder = await mkdtemp(join(tmpdir(), 'probe-memory-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const kernel = join(folder, 'vmlinuz')
  await writeFile(kernel, 'kernel one')
  return { folder, kernel, memory: new ProbeMemory(folder), subject: { accel: 'kvm', qemuVersion: '7.2.22', kernel } }
}

test('an outcome is remembered until kernel, QEMU or accelerator change', async () => {
  const { memory, subject, kernel, folder } = await setUp()
  expect(await memory.recall(subject)).toBeUndefined()
  await memory.remember(subject, { works: true, reason: null })
  expect(await new ProbeMemory(folder).recall(subject)).toEqual({ works: true, reason: null })
  expect(await memory.recall({ ...subject, qemuVersion: '10.0.2' })).toBeUndefined()
  expect(await memory.recall({ ...subject, accel: 'tcg' })).toBeUndefined()
  await writeFile(kernel, 'kernel two')
  expect(await memory.recall(subject)).toBeUndefined()
})

test('a failure is tried again after a day, a success is not', async () => {
  const { memory, subject } = await setUp()
  const later = new Date(Date.now() + 25 * 3_600_000)
  await memory.remember(subject, { works: false, reason: 'bad luck' })
  expect(await memory.recall(subject)).toEqual({ works: false, reason: 'bad luck' })
  expect(await memory.recall(subject, later)).toBeUndefined()
  await memory.remember(subject, { works: true, reason: null })
  expect(await memory.recall(subject, later)).toEqual({ works: true, reason: null })
})

test('a damaged memory is no memory', async () => {
  const { memory, subject, folder } = await setUp()
  await memory.remember(subject, { works: true, reason: null })
  const [name = ''] = await readdir(join(folder, 'probes'))
  await writeFile(join(folder, 'probes', name), '{"works":')
  expect(await memory.recall(subject)).toBeUndefined()
})
