import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { readRegistries, registryDestinations } from './registries.ts'

function hostWith(files: Record<string, string>, env: NodeJS.ProcessEnv = {}) {
  const root = mkdtempSync(join(tmpdir(), 'viv-registries-'))
  onTestFinished(() => rmSync(root, { recursive: true }))
  mkdirSync(join(root, 'apt/sources.list.d'), { recursive: true })
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, name), text)
  return readRegistries({ npmrc: [join(root, 'global'), join(root, 'user')], aptDir: join(root, 'apt'), env })
}

test('a host without configuration has the public npm registry and no apt sources', () => {
  expect(hostWith({})).toEqual({ npm: [{ scope: undefined, url: 'https://registry.npmjs.org/' }], apt: [] })
})

test('registries of npm are read without their tokens, the user over the global file, the environment over both', () => {
  const files = {
    global: 'registry=https://global.example/npm/\n',
    user: [
      'registry = "https://ada:hunter2@mirror.example:4873/npm/?token=s3cret#x"',
      '@corp:registry=http://${CORP_HOST}/api/npm/',
      '//mirror.example:4873/:_authToken=npm_s3cret',
      '; registry=https://comment.example/',
      '# registry=https://comment.example/',
      'cafile=/etc/ca.pem',
    ].join('\n'),
  }
  const registries = hostWith(files, { CORP_HOST: 'corp.example' })
  expect(registries.npm).toEqual([
    { scope: undefined, url: 'https://mirror.example:4873/npm/' },
    { scope: '@corp', url: 'http://corp.example/api/npm/' },
  ])
  expect(JSON.stringify(registries)).not.toMatch(/s3cret|hunter2|ada/)
  expect(hostWith(files, { npm_config_registry: 'https://env.example/' }).npm[0]?.url).toBe('https://env.example/')
})

test('apt sources are read in both formats, the enabled ones only', () => {
  const { apt } = hostWith({
    'apt/sources.list': [
      '# deb http://comment.example/ x main',
      'deb [arch=amd64 signed-by=/k.gpg] http://deb.example/debian bookworm main # trailing',
      'deb-src https://user:pw@src.example:8443/debian bookworm main',
      'deb cdrom:[Debian]/ bookworm main',
      'deb file:/srv/mirror bookworm main',
    ].join('\n'),
    'apt/sources.list.d/a.sources': [
      'Types: deb',
      '# a comment in between',
      'URIs: http://one.example/debian',
      '  https://two.example/debian',
      'Suites: bookworm',
      '',
      'Enabled: no',
      'URIs: http://off.example/',
    ].join('\n'),
    'apt/sources.list.d/b.list.disabled': 'deb http://disabled.example/ x main',
  })
  expect(apt).toEqual([
    'http://deb.example/debian',
    'https://src.example:8443/debian',
    'http://one.example/debian',
    'https://two.example/debian',
  ])
})

test('every registry gives one destination with its port', () => {
  const npm = [
    { scope: undefined, url: 'https://npm.example/' },
    { scope: '@a', url: 'http://[::1]:4873/' },
  ]
  expect(registryDestinations({ npm, apt: ['http://deb.example/debian', 'http://deb.example/security'] })).toEqual([
    { host: 'npm.example', port: 443 },
    { host: '::1', port: 4873 },
    { host: 'deb.example', port: 80 },
  ])
})
