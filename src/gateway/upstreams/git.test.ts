import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startToolServer, type ToolServer } from '../../../test/support/tool-server.ts'
import { UpstreamSetting } from '../../config/schema.ts'
import { startTestAgent, startTestHost } from '../../link/testing.ts'
import { openDatabase } from '../../store/database.ts'
import { SOUND_STORAGE } from '../../store/testing/sound-storage.ts'
import { createLogger } from '../../telemetry/logger.ts'
import { vaultCredentials } from '../credentials.ts'
import { createGateway } from '../gateway.ts'
import { testSecrets } from '../test-secrets.ts'
import type { EgressDecision } from '../types.ts'
import { UpstreamAgents } from './agents.ts'
import { upstreamSet } from './set.ts'

const TOKEN = 'ghp_0123456789abcdefghijklmnopqrstuvwxyz'

let stack: AsyncDisposableStack
let server: ToolServer
let folder: string

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  folder = mkdtempSync(join(tmpdir(), 'vivarium-git-'))
  stack.defer(() => rmSync(folder, { recursive: true }))
  server = stack.use(await startToolServer('127.0.0.2', TOKEN))
})

afterEach(() => stack.disposeAsync())

/** The agent of a guest, outside a machine, on a gateway that takes the server for GitHub. */
async function openGuest(stored: Record<string, string>) {
  const github = {
    name: 'github',
    url: server.url,
    inject: { secret: 'github', format: 'Basic x-access-token:{secret}' },
  }
  const secrets = testSecrets(stored)
  const set = upstreamSet({ settings: [UpstreamSetting.parse(github)], registries: [], secrets })
  const database = await openDatabase(':memory:')
  stack.defer(() => database.destroy())
  const gateway = createGateway({
    config: { anthropic: { upstream: 'http://127.0.0.1:1' }, network: { allow: [] } },
    database,
    storage: SOUND_STORAGE,
    credentials: vaultCredentials(secrets),
    registries: [],
    upstreams: { ...set, agents: new UpstreamAgents(() => [server.ca]) },
    isTrusted: () => true,
    log: createLogger('error'),
  })
  const decisions: EgressDecision[] = []
  const session = gateway.open({
    machineId: 'vm_1',
    userId: 'u_1',
    taskId: null,
    policy: { allow: [server.host] },
    maxCostUsd: undefined,
    onEgress: (decision) => decisions.push(decision),
  })
  stack.defer(() => session.close())
  const host = stack.use(await startTestHost({}, (socket) => session.accept(socket)))
  const agent = stack.use(await startTestAgent(host))
  writeFileSync(
    join(folder, 'gitconfig'),
    `[url "http://127.0.0.1:${agent.upstreamPort}/github/"]\n\tinsteadOf = https://github.com/\n[user]\n\tname = a\n\temail = a@b\n[http]\n\tproxy = http://127.0.0.1:${agent.proxyPort}\n\tsslCAInfo = ${server.caFile}\n[http "http://127.0.0.1:${agent.upstreamPort}/"]\n\tproxy =\n`,
  )
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: folder,
    GIT_CONFIG_GLOBAL: join(folder, 'gitconfig'),
    GIT_TERMINAL_PROMPT: '0',
  }
  const git = (cwd: string, ...args: string[]) => execa('git', args, { cwd, env, extendEnv: false, reject: false })
  return { git, decisions }
}

test('git clones and pushes a private repository with a token it never has; the repository keeps its own address', async () => {
  const { git, decisions } = await openGuest({ github: TOKEN })
  expect(await git(folder, 'clone', '-q', 'https://github.com/acme/private.git', 'clone')).toMatchObject({
    exitCode: 0,
  })
  const clone = join(folder, 'clone')
  writeFileSync(join(clone, 'large'), Buffer.alloc(3_000_000, 'x'))
  await git(clone, 'add', '.')
  await git(clone, 'commit', '-qm', 'large')
  expect(await git(clone, 'push', '-q', 'origin', 'main')).toMatchObject({ exitCode: 0, stderr: '' })
  const { stdout } = await execa('git', ['-C', server.repository, 'cat-file', '-s', 'main:large'])
  expect(stdout).toBe('3000000')
  const config = readFileSync(join(clone, '.git/config'), 'utf8')
  expect(config).toContain('url = https://github.com/acme/private.git')
  expect(config).not.toMatch(/ghp_|127\.0\.0\.1/)
  expect(decisions.every(({ rule, allowed }) => allowed && rule === 'upstream github')).toBe(true)
})

test('without the token git says what is missing', async () => {
  const { git } = await openGuest({})
  const { exitCode, stderr } = await git(folder, 'clone', '-q', 'https://github.com/acme/private.git')
  expect([exitCode, stderr]).toEqual([128, expect.stringContaining('remote: This needs the secret "github"')])
})

test('git clones by TLS through the proxy', async () => {
  const { git, decisions } = await openGuest({})
  expect(await git(folder, 'clone', '-q', `${server.url}/open/open.git`)).toMatchObject({ exitCode: 0 })
  await expect
    .poll(() => decisions)
    .toContainEqual(expect.objectContaining({ allowed: true, rule: `allow ${server.host}` }))
})
