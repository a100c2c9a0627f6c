import { chmod, chown, mkdir, mkdtemp, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { makeReachable } from './folders.ts'

const isRoot = process.getuid?.() === 0

async function temporary(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'folders-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  return folder
}

test('folders that are made can be passed through by other users, but not listed', async () => {
  const folder = join(await temporary(), 'base', 'own')
  await makeReachable(folder)
  await makeReachable(folder)
  expect((await stat(folder)).mode & 0o777).toBe(0o711)
})

test('a link that another user has put in the place of the run folder is refused, and what it names stays as it is', async () => {
  const base = await temporary()
  const victim = join(base, 'victim')
  await mkdir(victim)
  await chmod(victim, 0o700)
  await symlink(victim, join(base, 'run'))
  await expect(makeReachable(join(base, 'run'))).rejects.toMatchObject({ code: 'setup_required' })
  await expect(makeReachable(join(base, 'run', 'below'))).rejects.toMatchObject({ code: 'setup_required' })
  expect((await stat(victim)).mode & 0o777).toBe(0o700)
})

test.runIf(isRoot)("a run folder inside another user's is refused", async () => {
  const base = join(await temporary(), 'theirs')
  await mkdir(base)
  await chown(base, 12_345, 12_345)
  await expect(makeReachable(join(base, 'own'))).rejects.toMatchObject({ code: 'setup_required' })
})
