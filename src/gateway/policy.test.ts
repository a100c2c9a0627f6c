import { expect, test } from 'vitest'
import { Policy, type PolicyInput } from './policy.ts'

function policy(input: Partial<PolicyInput>): Policy {
  return new Policy({
    settings: [],
    task: [],
    taskIsTrusted: false,
    registries: [],
    isOwnAddress: () => false,
    ...input,
  })
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
  const rules = policy({ registries: [at('npm.corp.example', 4873)] })
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
