import { expect, test } from 'vitest'
import { parseOneLine } from './apt-sources.ts'
import { registryDestinations } from './destinations.ts'

const NOTHING = { apt: [], npm: { registry: 'http://npm.example/' }, pip: { index: undefined, extra: [] } }

test('every registry gives one destination with its port; what is not http is left out', () => {
  const apt = parseOneLine(
    'deb http://deb.example/debian bookworm main\ndeb http://deb.example/security bookworm main\ndeb file:/srv/mirror bookworm main\ndeb cdrom:[x]/ bookworm main',
  )
  const npm = {
    registry: 'https://user:secret@npm.example/',
    '@a:registry': 'http://[::1]:4873/',
    '//npm.example/:_authToken': 'x',
  }
  const pip = { index: 'https://user:secret@pip.example/simple', extra: ['http://more.example:8080/simple'] }
  const mirrors = {
    cargo: 'sparse+https://cargo.example/index/',
    go: { GOPROXY: 'https://go.example,direct', GOSUMDB: 'off' },
  }
  expect(registryDestinations({ apt, npm, pip, mirrors })).toEqual([
    { host: 'deb.example', port: 80 },
    { host: 'npm.example', port: 443 },
    { host: '::1', port: 4873 },
    { host: 'pip.example', port: 443 },
    { host: 'more.example', port: 8080 },
    { host: 'cargo.example', port: 443 },
    { host: 'go.example', port: 443 },
  ])
})

test('pip, cargo and go that nothing was configured for use their own', () => {
  const hosts = registryDestinations({ ...NOTHING, mirrors: { cargo: undefined, go: {} } }).map(({ host }) => host)
  expect(hosts).toEqual([
    'npm.example',
    'pypi.org',
    'files.pythonhosted.org',
    'index.crates.io',
    'static.crates.io',
    'crates.io',
    'proxy.golang.org',
    'sum.golang.org',
  ])
})
