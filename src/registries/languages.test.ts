import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { cratesIoMirror, readLanguageMirrors } from './languages.ts'
import { parsePipConf, readPipIndexes } from './pip.ts'

test('pip: the environment beats the user, who beats the host; only addresses on the web count', () => {
  const home = mkdtempSync(join(tmpdir(), 'vivarium-pip-'))
  try {
    mkdirSync(join(home, '.pip'))
    writeFileSync(
      join(home, 'pip.conf'),
      '[global]\nindex-url = https://host.example/simple\nextra-index-url = file:///srv/simple\n',
    )
    expect(readPipIndexes({}, home, home)).toEqual({ index: 'https://host.example/simple', extra: [] })
    writeFileSync(
      join(home, '.pip/pip.conf'),
      '[global]\nindex_url = https://user.example/simple\nextra-index-url =\n    https://a.example/s\n    https://b.example/s\n',
    )
    expect(readPipIndexes({}, home, home)).toEqual({
      index: 'https://user.example/simple',
      extra: ['https://a.example/s', 'https://b.example/s'],
    })
    expect(readPipIndexes({ PIP_INDEX_URL: 'https://env.example/simple' }, home, home).index).toBe(
      'https://env.example/simple',
    )
    expect(readPipIndexes({}, join(home, 'nowhere'), join(home, 'nowhere'))).toEqual({ index: undefined, extra: [] })
  } finally {
    rmSync(home, { recursive: true })
  }
  expect(parsePipConf('index-url = a\n[install]\nindex-url = b\n')).toEqual({})
})

test('cargo: what stands for crates.io is found by its replacements, however they circle', () => {
  const config = `[build]
registry = "https://not.example/"
[source.crates-io]
replace-with = "one" # ours
[source.one]
replace-with = 'two'
[source."two"]
registry = "sparse+https://cargo.example/index/"
`
  expect(cratesIoMirror(config)).toBe('sparse+https://cargo.example/index/')
  expect(cratesIoMirror('[source.crates-io]\nreplace-with = "crates-io"\n')).toBeUndefined()
  expect(cratesIoMirror('[source.crates-io]\nreplace-with = "v"\n[source.v]\ndirectory = "vendor"\n')).toBeUndefined()
})

test('go: the environment beats the file that `go env -w` writes', () => {
  const home = mkdtempSync(join(tmpdir(), 'vivarium-go-'))
  try {
    mkdirSync(join(home, '.config/go'), { recursive: true })
    writeFileSync(join(home, '.config/go/env'), 'GOPROXY=https://file.example\nGOSUMDB=off\nGOFLAGS=-mod=mod\n')
    expect(readLanguageMirrors({}, home).go).toEqual({ GOPROXY: 'https://file.example', GOSUMDB: 'off' })
    expect(readLanguageMirrors({ GOPROXY: 'direct' }, home).go).toMatchObject({ GOPROXY: 'direct' })
  } finally {
    rmSync(home, { recursive: true })
  }
})
