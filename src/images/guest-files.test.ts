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
  trust: [{ path: '/usr/local/share/ca-certificates/acme.crt', content: 'PEM\n', mode: 0o644, encoding: 'utf8' }],
}

const file = (host: HostFacts, path: string) => guestFiles(host).find((entry) => entry.path === path)?.content

test('no secret of the host gets into any file of a guest', () => {
  expect(JSON.stringify(guestFiles(HOST))).not.toMatch(/hunter2|user:|proxy\.example|authToken/)
})

test("a guest gets the host's mirrors and registries, behind the gateway", () => {
  expect(file(HOST, '/etc/apt/sources.list.d/debian.sources')).toContain('URIs: https://mirror.example/debian\n')
  expect(file(HOST, '/usr/local/etc/npmrc')).toMatch(/^registry=https:\/\/npm.example\/\n@acme:registry=https:\/\/acme/)
  expect(file(HOST, '/etc/apt/apt.conf.d/90vivarium')).toContain('Acquire::Check-Date "false";\n')
  for (const path of ['/etc/apt/apt.conf.d/90vivarium', '/usr/local/etc/npmrc', '/etc/pip.conf', '/etc/gitconfig']) {
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
