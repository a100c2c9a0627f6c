import { expect, test } from 'vitest'
import { guestFiles } from './guest-files.ts'
import type { HostFacts } from './host.ts'

const HOST: HostFacts = {
  codename: 'bookworm',
  aptSources: [
    {
      uris: ['https://user:hunter2@mirror.example/debian'],
      suites: ['bookworm'],
      components: ['main'],
      options: { 'signed-by': '/usr/share/keyrings/debian-archive-keyring.gpg' },
    },
  ],
  aptOptions: ['Acquire::Check-Date "false";', 'Acquire::http::Proxy "http://user:hunter2@proxy.example:3128";'],
  npm: {
    registry: 'https://user:hunter2@npm.example/',
    '@acme:registry': 'https://acme.example/npm/',
    '//npm.example/:_authToken': 'hunter2',
    proxy: 'http://user:hunter2@proxy.example:3128',
  },
  pip: { index: 'https://bob:hunter2@pypi.example/simple', extra: ['https://plain.example/simple'] },
  mirrors: {
    cargo: 'sparse+https://bob:hunter2@cargo.example/index/',
    go: { GOPROXY: 'https://bob:hunter2@go.example,direct', GOSUMDB: 'off' },
  },
  upstreams: [],
  trust: [{ path: '/usr/local/share/ca-certificates/acme.crt', content: 'PEM\n', mode: 0o644, encoding: 'utf8' }],
}

const file = (host: HostFacts, path: string) => guestFiles(host).find((entry) => entry.path === path)?.content

test('no secret of the host gets into any file of a guest', () => {
  expect(JSON.stringify(guestFiles(HOST))).not.toMatch(/hunter2|user:|bob:|proxy\.example|authToken/)
})

test("a guest gets the host's mirrors and registries, behind the gateway", () => {
  expect(file(HOST, '/etc/apt/sources.list.d/debian.sources')).toContain('URIs: https://mirror.example/debian\n')
  expect(file(HOST, '/usr/local/etc/npmrc')).toMatch(/^registry=https:\/\/npm.example\/\n@acme:registry=https:\/\/acme/)
  expect(file(HOST, '/etc/apt/apt.conf.d/90vivarium')).toContain('Acquire::Check-Date "false";\n')
  for (const path of ['/etc/apt/apt.conf.d/90vivarium', '/usr/local/etc/npmrc', '/etc/environment', '/etc/gitconfig']) {
    expect(`${path}: ${file(HOST, path)}`).toContain('http://127.0.0.1:3128')
  }
})

test('programs with certificates of their own are shown those that were added to the host, if there are any', () => {
  expect(file(HOST, '/etc/environment')).toContain(
    'NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/vivarium-added.pem',
  )
  expect(file(HOST, '/usr/local/share/ca-certificates/vivarium-added.pem')).toBe('PEM\n')
  expect(file({ ...HOST, trust: [] }, '/etc/environment')).not.toContain('CERT')
})

test('the environment file can be read by a shell as well as by PAM', () => {
  const lines = file(HOST, '/etc/environment')?.trimEnd().split('\n') ?? []
  for (const line of lines) expect(line).toMatch(/^[A-Za-z_]+=[\w/:.,-]+$/)
})

test('registries that the gateway has a credential for are reached by it, with placeholders where tools ask for them', () => {
  const upstreams = [
    { name: 'npm', origin: 'https://npm.example', path: '' },
    { name: 'apt', origin: 'https://mirror.example', path: '/debian' },
    { name: 'pip', origin: 'https://pypi.example', path: '' },
  ]
  const host = { ...HOST, upstreams }
  expect(file(host, '/usr/local/etc/npmrc')).toMatch(
    /^registry=http:\/\/npm\.upstream\/\n@acme:registry=https:\/\/acme\.example\/npm\/\n/,
  )
  expect(file(host, '/usr/local/etc/npmrc')).toMatch(/^\/\/npm\.upstream\/:_authToken=npm_\w{36}$/m)
  expect(file(host, '/usr/local/etc/npmrc')).toContain('replace-registry-host=npm.example\n')
  expect(file(host, '/etc/apt/sources.list.d/debian.sources')).toContain('URIs: http://apt.upstream/debian\n')
  expect(file(host, '/etc/pip.conf')).toContain('index-url = http://pip.upstream/simple\n')
  expect(file(host, '/etc/pip.conf')).toContain('trusted-host = pip.upstream\n')
  expect(JSON.stringify(guestFiles(host))).not.toContain('hunter2')
  expect(file(HOST, '/usr/local/etc/npmrc')).not.toMatch(/replace-registry-host|_authToken/)
})

test("cargo and go are told this host's mirrors, where it has any", () => {
  expect(file(HOST, '/.cargo/config.toml')).toContain('registry = "sparse+https://cargo.example/index/"')
  expect(file(HOST, '/etc/environment')).toContain('GOPROXY=https://go.example,direct\n')
  expect(file({ ...HOST, mirrors: { cargo: undefined, go: {} } }, '/.cargo/config.toml')).toBeUndefined()
})

test('git asks for GitHub at the local address, whichever way it is written', () => {
  const config = file(HOST, '/etc/gitconfig')
  expect(config).toContain('[url "http://127.0.0.1:3130/github/"]\n\tinsteadOf = https://github.com/\n')
  expect(config).toContain('\tinsteadOf = git@github.com:\n')
  expect(config).toContain('[http "http://127.0.0.1:3130/"]\n\tproxy =\n')
})
