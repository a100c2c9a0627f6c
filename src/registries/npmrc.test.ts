import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { npmRegistries, npmSettingsForFetching, pacoteOptions, parseNpmrc, readNpmSettings } from './npmrc.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'vivarium-npmrc-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const NPMRC = `; comment
registry = https://user:hunter2@npm.example/repo/?token=hunter2
@acme:registry="https://acme.example/npm/"
//npm.example/repo/:_authToken=\${NPM_TOKEN}
//acme.example/npm/:_password=hunter2
editor=vi
`

test('guests learn addresses of registries and nothing else', () => {
  const registries = npmRegistries(parseNpmrc(NPMRC, { NPM_TOKEN: 'hunter2' }))
  expect(registries).toEqual({ registry: 'https://npm.example/repo/', '@acme:registry': 'https://acme.example/npm/' })
})

test('fetching on this host uses its credentials, with variables filled in', () => {
  const settings = parseNpmrc(NPMRC, { NPM_TOKEN: 'hunter2' })
  expect(pacoteOptions(settings)).toMatchObject({
    '//npm.example/repo/:_authToken': 'hunter2',
    '@acme:registry': 'https://acme.example/npm/',
  })
  expect(Object.keys(npmSettingsForFetching(settings))).not.toContain('editor')
})

test('the environment beats the user, who beats the whole host, as in npm', () => {
  const global = join(home, 'global')
  writeFileSync(global, 'registry=https://global.example/\nproxy=http://proxy.example:1/\n')
  const read = (env: Record<string, string>) => readNpmSettings({ npm_config_globalconfig: global, ...env }, home)
  expect(read({})['registry']).toBe('https://global.example/')
  writeFileSync(join(home, '.npmrc'), 'registry=https://user.example/\n')
  expect(read({})).toMatchObject({ registry: 'https://user.example/', proxy: 'http://proxy.example:1/' })
  expect(read({ NPM_CONFIG_REGISTRY: 'https://env.example/', npm_config_strict_ssl: 'false' })).toMatchObject({
    registry: 'https://env.example/',
    'strict-ssl': 'false',
  })
})

test("a certificate file of npm's is used as the certificates in it", () => {
  const cafile = join(home, 'ca.pem')
  const pem = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----'
  writeFileSync(cafile, `first\n${pem}\nsecond\n${pem}\n`)
  expect(pacoteOptions({ cafile })['ca']).toEqual([pem, pem])
})
