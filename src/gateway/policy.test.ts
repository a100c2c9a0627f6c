import { expect, test } from 'vitest'
import { splitAuthority } from './authority.ts'
import { Policy, type Level, type PolicyInput } from './policy.ts'

/** The settings' level and a task's, whose author has no trust. */
type Given = Partial<PolicyInput> & { settings?: string[]; task?: string[]; taskIsTrusted?: boolean }

function policy({ settings = [], task = [], taskIsTrusted = false, ...input }: Given): Policy {
  const levels = [level(settings, true), level(task, taskIsTrusted)]
  return new Policy({ levels, packages: [], isOwnAddress: () => false, ...input })
}

function level(allow: string[], isTrusted = false, upstreams: Level['upstreams'] = {}): Level {
  return { allow, upstreams, isTrusted }
}

const at = (host: string, port = 443) => ({ host, port })

test('what no rule names is refused, with what the agent can do about it', () => {
  const decision = policy({ settings: ['github.com'] }).decide(at('example.com'))
  expect(decision).toMatchObject({ allowed: false, rule: 'deny by default' })
  expect(decision.advice).toContain('--allow example.com')
})

test('an exact rule names one host, a suffix rule everything below it', () => {
  const rules = policy({ settings: ['GitHub.com'], task: ['*.crates.io'] })
  expect(rules.decide(at('github.com'))).toEqual({ allowed: true, rule: 'allow GitHub.com' })
  expect(rules.decide(at('api.github.com')).allowed).toBe(false)
  expect(rules.decide(at('notgithub.com')).allowed).toBe(false)
  expect(rules.decide(at('static.crates.io')).allowed).toBe(true)
  expect(rules.decide(at('crates.io')).allowed).toBe(false)
  expect(rules.decide(at('evilcrates.io')).allowed).toBe(false)
})

test('ports other than 80 and 443 must be named', () => {
  const rules = policy({ settings: ['a.example', 'b.example:8443'] })
  expect(rules.decide(at('a.example', 80)).allowed).toBe(true)
  expect(rules.decide(at('a.example', 22))).toMatchObject({ allowed: false })
  expect(rules.decide(at('a.example', 22)).advice).toContain('--allow a.example:22')
  expect(rules.decide(at('b.example', 8443)).allowed).toBe(true)
  expect(rules.decide(at('b.example', 443)).allowed).toBe(false)
})

test('a registry of this host is allowed at its own port, wherever it stands', () => {
  const rules = policy({ settings: ['packages'], packages: [at('npm.corp.example', 4873)] })
  expect(rules.decide(at('npm.corp.example', 4873))).toEqual({ allowed: true, rule: 'registry npm.corp.example' })
  expect(rules.decide(at('npm.corp.example', 443)).allowed).toBe(false)
  expect(rules.decideAddress(at('npm.corp.example', 4873), '10.0.0.7').allowed).toBe(true)
  expect(rules.decideAddress(at('other.example', 4873), '10.0.0.7').allowed).toBe(false)
})

test('an allowed name that leads to a private address is refused', () => {
  const rules = policy({ settings: ['*.example'] })
  expect(rules.decideAddress(at('a.example'), '93.184.215.14').allowed).toBe(true)
  const decision = rules.decideAddress(at('a.example'), '::ffff:169.254.169.254')
  expect(decision).toMatchObject({ allowed: false, rule: 'deny private address 169.254.169.254' })
  expect(decision.advice).toContain('private address')
})

test("an allowed name that leads to this host's own public address is refused, unless a rule names that address", () => {
  const isOwnAddress = (address: string) => address === '2a01:4f8::7'
  const rules = policy({ settings: ['*.example'], isOwnAddress })
  expect(rules.decideAddress(at('a.example'), '2a01:4f8::8').allowed).toBe(true)
  expect(rules.decideAddress(at('a.example'), '2a01:4f8::7')).toMatchObject({
    allowed: false,
    rule: 'deny own address 2a01:4f8::7',
  })
  const named = policy({ settings: ['[2a01:4f8::7]'], isOwnAddress })
  expect(named.decideAddress(at('2a01:4f8::7'), '2a01:4f8::7').allowed).toBe(true)
})

test('a rule that names an address opens that address, for names that are allowed too', () => {
  const rules = policy({ settings: ['10.0.0.5', '[::1]:8080', 'git.corp.example', 'localhost:3000'] })
  expect(rules.decide(at('10.0.0.5')).allowed).toBe(true)
  expect(rules.decideAddress(at('10.0.0.5'), '10.0.0.5').allowed).toBe(true)
  expect(rules.decideAddress(at('git.corp.example'), '10.0.0.5').allowed).toBe(true)
  expect(rules.decideAddress(at('git.corp.example'), '10.0.0.6').allowed).toBe(false)
  expect(rules.decideAddress(at('10.0.0.5', 22), '10.0.0.5').allowed).toBe(false)
  expect(rules.decideAddress(at('::1', 8080), '::1').allowed).toBe(true)
  expect(rules.decideAddress(at('localhost', 3000), '127.0.0.1').allowed).toBe(true)
})

test('a task of a user without trust opens no private address', () => {
  const task = ['127.0.0.1', 'localhost']
  expect(policy({ task }).decideAddress(at('127.0.0.1'), '127.0.0.1').allowed).toBe(false)
  expect(policy({ task }).decideAddress(at('localhost'), '127.0.0.1').allowed).toBe(false)
  expect(policy({ task, taskIsTrusted: true }).decideAddress(at('127.0.0.1'), '127.0.0.1').allowed).toBe(true)
})

test('an unreadable rule opens nothing', () => {
  const rules = policy({ settings: ['', '*', '*.', 'a b', 'http://a.example', 'a.example:0', 'a.example:99999'] })
  for (const host of ['a.example', 'a', '*', '']) expect(rules.decide(at(host)).allowed).toBe(false)
})

test('numbers that resolvers take for addresses are no names, whatever is allowed', () => {
  for (const spelling of ['2130706433', '0x7f000001', '017700000001', '127.1', '127.0.0.01', '0x7f.1', 'a.1', '1.'])
    expect(splitAuthority(spelling)).toBeUndefined()
  for (const name of ['127.0.0.1', '1a.example', 'x1', '1.example', '0xfg']) expect(splitAuthority(name)).toBeDefined()
})

test('presets stand for what this host is configured for, for GitHub, for the whole public web', () => {
  const packages = [at('deb.example', 80), at('npm.corp.example', 4873)]
  const rules = policy({ task: ['packages', 'github'], packages })
  expect(rules.decide(at('deb.example', 80)).allowed).toBe(true)
  expect(rules.decideAddress(at('npm.corp.example', 4873), '10.0.0.7').allowed).toBe(true)
  for (const host of ['github.com', 'codeload.github.com', 'raw.githubusercontent.com'])
    expect(rules.decide(at(host))).toEqual({ allowed: true, rule: 'allow github' })
  expect(rules.decide(at('github.com.evil.example')).allowed).toBe(false)
  const all = policy({ task: ['all'], taskIsTrusted: true })
  expect(all.decide(at('anything.example')).allowed).toBe(true)
  expect(all.decide(at('anything.example', 25)).allowed).toBe(false)
  expect(all.decideAddress(at('anything.example'), '10.0.0.1').allowed).toBe(false)
  expect(all.decideAddress(at('127.0.0.1'), '127.0.0.1').allowed).toBe(false)
})

test('a host with the name of a preset is meant where a port is named', () => {
  expect(policy({ settings: ['github:443'] }).decide(at('github')).allowed).toBe(true)
  expect(policy({ settings: ['github:443'] }).decide(at('github.com')).allowed).toBe(false)
})

test('each level adds to the broader ones; `none` in one drops what they allow, and nothing of its own', () => {
  const decide = (...lists: string[][]) => {
    const rules = new Policy({ levels: lists.map((list) => level(list)), packages: [], isOwnAddress: () => false })
    return ['a.example', 'b.example', 'c.example'].map((host) => rules.decide(at(host)).allowed)
  }
  expect(decide(['a.example'], ['b.example'], ['c.example'])).toEqual([true, true, true])
  expect(decide(['a.example'], ['none', 'b.example'], ['c.example'])).toEqual([false, true, true])
  expect(decide(['a.example'], ['b.example'], ['c.example', 'none'])).toEqual([false, false, true])
  expect(decide(['none', 'a.example'], [], [])).toEqual([true, false, false])
  expect(decide(['a.example'], ['none'], ['none'])).toEqual([false, false, false])
})

test('an upstream is open by its own name, or by the host it leads to, which its name alone does not open', () => {
  const byName = policy({ task: ['upstream:jira', 'anthropic'] })
  expect(byName.decideUpstream('jira', at('jira.example'))).toEqual({ allowed: true, rule: 'upstream jira' })
  expect(byName.decideUpstream('anthropic').allowed).toBe(true)
  expect(byName.decide(at('jira.example')).allowed).toBe(false)
  const byHost = policy({ task: ['jira.example'] })
  expect(byHost.decideUpstream('jira', at('jira.example')).allowed).toBe(true)
  expect(byHost.decideUpstream('jira', at('jira.example', 8443)).advice).toContain('--allow upstream:jira')
  expect(byHost.decideUpstream('anthropic').allowed).toBe(false)
})

test('what an upstream takes is narrowed by every level that says so, also by one whose list is dropped', () => {
  const get = [{ method: 'GET' as const, path: '/**' }]
  const none: Level = level(['none'])
  const rules = new Policy({
    levels: [level([], true), level([], true, { jira: get }), none, level([], false, { jira: [] })],
    packages: [],
    isOwnAddress: () => false,
  })
  expect(rules.routesOf('jira')).toEqual([get, []])
  expect(rules.routesOf('constructor')).toEqual([])
})
