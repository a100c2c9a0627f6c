import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { newId } from '../../src/contracts/ids.ts'
import { startTestAgent, startTestHost, type TestAgent, type TestHost } from '../../src/link/testing.ts'
import { cgroupMount } from './tracking.ts'

/** A cgroup of our own, where this machine lets us make one. */
function makeCgroup(): string | undefined {
  const mount = cgroupMount()
  if (mount === undefined || process.getuid?.() !== 0) return undefined
  const folder = join(mount, `vivarium-test-${process.pid}`)
  mkdirSync(folder)
  return existsSync(join(folder, 'cgroup.kill')) ? folder : undefined
}

function groups(): string[] {
  return readdirSync(cgroup ?? '').filter((name) => name.startsWith('exec-'))
}

const cgroup = makeCgroup()
let host: TestHost
let agent: TestAgent

beforeAll(async () => {
  host = await startTestHost()
  agent = await startTestAgent(host, cgroup === undefined ? [] : ['--no-setuid', '--cgroup', cgroup])
})

afterAll(async () => {
  await agent[Symbol.asyncDispose]()
  await host[Symbol.asyncDispose]()
  // The launcher goes after its agent, with what it had prepared.
  if (cgroup !== undefined) await vi.waitFor(() => rmdirSync(cgroup), { timeout: 15_000 })
})

test.runIf(cgroup !== undefined)('in a cgroup, a daemon that hides from everything else is killed', async () => {
  const id = newId('x')
  // No variable, no common group or session, no living ancestor.
  const script = 'env -i setsid -f sleep 1000; sleep 0.1; cat /proc/self/cgroup | grep ^0; sleep 1000'
  const spec = { argv: ['bash', '-c', script], env: {}, cwd: '/', user: 'agent' as const, stdin: 'none' as const }
  await host.link.start(id, spec)
  let group = ''
  let processes = 0
  let signal: string | null = null
  for await (const piece of host.link.output(id, 0)) {
    if (piece.kind === 'exit') signal = piece.exit.signal
    else {
      group += piece.data.toString().replace(/^0::.*\/(.*)\n$/, '$1')
      const members = readFileSync(join(cgroup ?? '', group, 'cgroup.procs'), 'utf8')
        .trim()
        .split('\n')
      processes = members.length
      await host.link.kill(id, 'SIGKILL')
    }
  }
  expect(signal).toBe('SIGKILL')
  expect(group).toMatch(/^exec-/)
  // The shell, its sleep, and the daemon.
  expect(processes).toBeGreaterThan(1)
  // Its group goes with it; the agent is in none.
  await expect.poll(() => groups().includes(group), { timeout: 15_000 }).toBe(false)
})
