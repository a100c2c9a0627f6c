import { chmodSync, chownSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { GUEST_USER } from '../../src/link/constants.ts'
import { startTestAgent, startTestHost, type TestAgent, type TestHost } from '../../src/link/testing.ts'

const isRoot = process.getuid?.() === 0
let host: TestHost
let agent: TestAgent

beforeAll(async () => {
  host = await startTestHost()
  chmodSync(host.folder, 0o755)
  if (isRoot) chownSync(host.workspace, GUEST_USER.uid, GUEST_USER.gid)
  agent = await startTestAgent(host, [])
})

afterAll(async () => {
  await agent[Symbol.asyncDispose]()
  await host[Symbol.asyncDispose]()
})

function run(script: string, user: 'agent' | 'root') {
  const spec = { argv: ['bash', '-c', script], env: {}, cwd: host.workspace, user }
  return host.link.exec(spec, { timeoutMs: 20_000, stdin: Buffer.from('input') })
}

test.runIf(isRoot)('processes run as the user asked for, who may reopen the standard streams', async () => {
  const script = 'id -u; id -G; echo $HOME; echo error > /dev/stderr; cat /dev/stdin'
  const asAgent = await run(script, 'agent')
  expect([asAgent.stdout.toString(), asAgent.stderr.toString()]).toEqual(['1000\n1000\n/home/agent\ninput', 'error\n'])
  const asRoot = await run(script, 'root')
  expect(asRoot.stdout.toString()).toMatch(/^0\n/)
  expect(asRoot.stderr.toString()).toBe('error\n')
})

test.runIf(isRoot)('files, folders and archives that the host puts belong to the agent user', async () => {
  await host.link.writeFile(join(host.workspace, 'a/b'), Buffer.from('x'))
  const tar = await host.link.getArchive({ root: host.workspace, paths: ['a/b'] })
  await host.link.putArchive(join(host.workspace, 'c'), tar)
  for (const name of ['a', 'a/b', 'c', 'c/a/b']) expect(statSync(join(host.workspace, name)).uid).toBe(GUEST_USER.uid)
})

test.runIf(isRoot)('a patch is made as the agent user; what only root made is collected as well', async () => {
  await host.link.baseline({ root: host.workspace, git: true, exclude: [] })
  writeFileSync(join(host.workspace, 'secret'), 'of root', { mode: 0o600 })
  await run('echo mine > mine', 'agent')
  const patch = await host.link.patch({ maxBytes: 100_000 })
  expect(patch === undefined ? '' : await text(patch)).toContain('+mine')
  const { changes } = await host.link.changes({ maxEntries: 10 })
  expect(changes.map(({ path }) => path).toSorted()).toEqual(['mine', 'secret'])
  const tar = await host.link.getArchive({ root: host.workspace, paths: ['secret'] })
  expect(await text(tar)).toContain('of root')
})
