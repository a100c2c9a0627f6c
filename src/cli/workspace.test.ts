import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { execa } from 'execa'
import { extract } from 'tar-stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { packWorkspace } from './workspace.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vivarium-workspace-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

async function names(): Promise<string[]> {
  const found: string[] = []
  const untar = extract()
  untar.on('entry', (header, stream, next) => {
    found.push(header.type === 'symlink' ? `${header.name} -> ${header.linkname}` : header.name)
    stream.on('end', next).resume()
  })
  const tar = await packWorkspace(folder)
  expect(tar).toBeInstanceOf(Readable)
  await pipeline(tar, untar)
  return found.toSorted()
}

function fill(): void {
  writeFileSync(join(folder, '.gitignore'), 'secret.txt\nbuild/\n')
  writeFileSync(join(folder, 'secret.txt'), 'x')
  mkdirSync(join(folder, 'build'))
  writeFileSync(join(folder, 'build/out'), 'x')
  mkdirSync(join(folder, 'src'))
  writeFileSync(join(folder, 'src/a b.txt'), 'x'.repeat(100_000))
  writeFileSync(join(folder, 'empty'), '')
  symlinkSync('src', join(folder, 'link'))
}

test('a plain folder is packed without what its .gitignore names', async () => {
  fill()
  expect(await names()).toEqual(['.gitignore', 'empty', 'link -> src', 'src/a b.txt'])
})

test('a repository is packed without .git, with untracked and without deleted files', async () => {
  fill()
  await execa('git', ['init', '--quiet'], { cwd: folder })
  await execa('git', ['add', '.'], { cwd: folder })
  rmSync(join(folder, 'empty'))
  writeFileSync(join(folder, 'new'), 'x')
  expect(await names()).toEqual(['.gitignore', 'link -> src', 'new', 'src/a b.txt'])
})

test('what is not a folder is refused in words', async () => {
  await expect(packWorkspace(join(folder, 'nothing'))).rejects.toThrow(/is not a folder/)
})

test('a repository inside is left out, and said to be', async () => {
  fill()
  mkdirSync(join(folder, 'vendored'))
  await execa('git', ['init', '--quiet'], { cwd: join(folder, 'vendored') })
  writeFileSync(join(folder, 'vendored/file'), 'x')
  const leftOut: string[] = []
  const tar = await packWorkspace(folder, (path) => leftOut.push(path))
  tar.resume()
  await once(tar, 'end')
  expect(leftOut).toEqual(['vendored/'])
})
