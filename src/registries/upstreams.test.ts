import { expect, test } from 'vitest'
import { parseOneLine } from './apt-sources.ts'
import type { HostRegistries } from './host.ts'
import { parseNetrc } from './netrc.ts'
import { guestRegistry, registryUpstreams } from './upstreams.ts'

const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

const HOST: HostRegistries = {
  apt: parseOneLine(`deb https://deb.example/debian bookworm main
deb https://u:p%40ss@private.example/apt/debian bookworm main
deb https://login.example/debian bookworm main
deb http://login.example/debian bookworm main`),
  aptLogins: parseNetrc(`# of apt
machine login.example
  login me
  password one
machine http://other.example/x login you password two`),
  npm: {
    registry: 'https://npm.example/repo/all/',
    '//npm.example/repo/:_authToken': 'token-1',
    '@Acme.Co:registry': 'https://pkg.example/npm/',
    '//pkg.example/npm/:username': 'bob',
    '//pkg.example/npm/:_password': Buffer.from('pw').toString('base64'),
    '@same:registry': 'https://npm.example/repo/all/',
    '@open:registry': 'https://open.example/',
  },
  pip: { index: 'https://pip:secret@pypi.example/api/pypi/simple', extra: ['https://pypi.org/simple'] },
  mirrors: { cargo: undefined, go: { GOPROXY: 'https://go:pw@go.example/mod,direct' } },
}

test('every registry with a credential becomes an upstream, for the paths the credential is for', () => {
  expect(registryUpstreams(HOST)).toEqual([
    {
      name: 'npm',
      origin: 'https://npm.example',
      path: '/repo',
      authorization: 'Bearer token-1',
      rewritesBodies: false,
    },
    {
      name: 'npm-acme-co',
      origin: 'https://pkg.example',
      path: '/npm',
      authorization: basic('bob:pw'),
      rewritesBodies: true,
    },
    {
      name: 'apt',
      origin: 'https://private.example',
      path: '/apt/debian',
      authorization: basic('u:p@ss'),
      rewritesBodies: false,
    },
    { name: 'apt-2', origin: 'https://login.example', path: '', authorization: basic('me:one'), rewritesBodies: false },
    {
      name: 'pip',
      origin: 'https://pypi.example',
      path: '/api/pypi',
      authorization: basic('pip:secret'),
      rewritesBodies: true,
    },
    { name: 'go', origin: 'https://go.example', path: '/mod', authorization: basic('go:pw'), rewritesBodies: false },
  ])
})

test('a guest is told the way by the gateway, or the plain address where there is no credential', () => {
  const upstreams = registryUpstreams(HOST)
  expect(guestRegistry('https://npm.example/repo/all/', upstreams)).toBe('http://npm.upstream/repo/all/')
  expect(guestRegistry('https://u:p%40ss@private.example/apt/debian', upstreams)).toBe('http://apt.upstream/apt/debian')
  expect(guestRegistry('https://deb.example/debian', upstreams)).toBe('https://deb.example/debian')
  expect(guestRegistry('http://login.example/debian', upstreams)).toBe('http://login.example/debian')
  expect(guestRegistry('https://npm.example/repository/', upstreams)).toBe('https://npm.example/repository/')
  expect(guestRegistry('https://x:y@other.example/a?token=z', [])).toBe('https://other.example/a')
})

test('a token without a registry of its own, and a host without credentials, give none', () => {
  const npm = { registry: 'https://npm.example/', '//elsewhere.example/:_authToken': 'x' }
  expect(
    registryUpstreams({
      apt: [],
      aptLogins: [],
      npm,
      pip: { index: undefined, extra: [] },
      mirrors: { cargo: undefined, go: {} },
    }),
  ).toEqual([])
})
