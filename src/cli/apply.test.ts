import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { applyPatch } from './apply.ts'

let folder: string
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'vivarium-apply-')))
})
afterEach(() => rmSync(folder, { recursive: true }))

const patch = () => Readable.from(['--- a/n.txt\n+++ b/n.txt\n@@ -1 +1 @@\n-old\n+new\n'])

async function place(name: string, content = 'old\n'): Promise<string> {
  const path = join(folder, name)
  mkdirSync(path, { recursive: true })
  writeFileSync(join(path, 'n.txt'), content)
  return path
}

test('changes are applied to the folder itself: in no repository, at the root of one, and below it', async () => {
  const plain = await place('plain')
  const repository = await place('repository')
  await execa('git', ['init', '--quiet'], { cwd: repository })
  const below = await place('repository/below')
  for (const path of [plain, repository, below]) {
    expect(await applyPatch(path, patch(), { check: false })).toContain('1 file changed')
    expect(readFileSync(join(path, 'n.txt'), 'utf8')).toBe('new\n')
  }
})

test('a check changes nothing', async () => {
  const path = await place('plain')
  await applyPatch(path, patch(), { check: true })
  expect(readFileSync(join(path, 'n.txt'), 'utf8')).toBe('old\n')
})

test('what does not fit is a conflict and changes nothing', async () => {
  const path = await place('plain', 'else\n')
  await expect(applyPatch(path, patch(), { check: false })).rejects.toMatchObject({ code: 'conflict' })
  expect(readFileSync(join(path, 'n.txt'), 'utf8')).toBe('else\n')
  expect(existsSync(join(path, 'n.txt.rej'))).toBe(false)
})
