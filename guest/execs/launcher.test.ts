import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newId } from '../../src/contracts/ids.ts'
import { startTestAgent, startTestHost, type TestAgent, type TestHost } from '../../src/link/testing.ts'

const TIMEOUT = { timeoutMs: 20_000 }
let host: TestHost
let agent: TestAgent

beforeAll(async () => {
  host = await startTestHost()
  agent = await startTestAgent(host)
})

afterAll(async () => {
  await agent[Symbol.asyncDispose]()
  await host[Symbol.asyncDispose]()
})

function spec(...argv: string[]) {
  return { argv, env: {}, cwd: host.workspace, user: 'agent' as const }
}

/** The agent's launcher, which is its only child that is called so. */
function launcherPid(): number {
  return Number(execFileSync('pgrep', ['-P', String(agent.pid), '-f', '^vivarium-launcher'], { encoding: 'utf8' }))
}

/** Whether a process is more than a zombie: who reaps orphans depends on the machine. */
function runs(pid: number): boolean {
  const stat = existsSync(`/proc/${pid}`) ? readFileSync(`/proc/${pid}/stat`, 'latin1') : ''
  return stat !== '' && !/\) [ZX] /.test(stat)
}

test('arguments and environment arrive as they are, also large, empty and odd ones', async () => {
  const long = 'x'.repeat(100_000)
  const env = { EMPTY: '', ODD: 'a=b\nc ü', ...Object.fromEntries([1, 2, 3, 4].map((n) => [`LONG${n}`, long])) }
  const program = 'process.stdout.write(JSON.stringify([process.argv.slice(1), process.env]))'
  const argv = [process.execPath, '-e', program, '--', '', 'two\nlines', '$HOME; exit', 'ü', long]
  const { stdout } = await host.link.exec({ ...spec(...argv), env }, TIMEOUT)
  const [args, environment] = JSON.parse(stdout.toString()) as [string[], Record<string, string>]
  expect(args).toEqual(['', 'two\nlines', '$HOME; exit', 'ü', long])
  expect(environment).toMatchObject(env)
})

test('what cannot be started is refused with the reason, and the next start is none the worse', async () => {
  writeFileSync(join(host.workspace, 'plain'), 'no program')
  chmodSync(join(host.workspace, 'plain'), 0o644)
  const refused = (argv: string[], cwd = host.workspace) => host.link.exec({ ...spec(...argv), cwd }, TIMEOUT)
  await expect(refused(['./plain'])).rejects.toThrow('cannot start ./plain: Permission denied')
  await expect(refused(['no-such-program'])).rejects.toThrow('cannot start no-such-program: No such file')
  await expect(refused(['true'], join(host.workspace, 'plain'))).rejects.toThrow('plain: Not a directory')
  await expect(refused(['echo', 'a\0b'])).rejects.toThrow('NUL')
  await expect(refused(['echo', ...Array.from({ length: 60 }, () => 'x'.repeat(120_000))])).rejects.toThrow('too long')
  expect((await host.link.exec(spec('true'), TIMEOUT)).exit.code).toBe(0)
})

test('a program finds the signals and session of a fresh login', async () => {
  const script = 'grep -E "^Sig(Blk|Ign)" /proc/self/status; ps -o sid= -p $$; echo $$'
  const { stdout } = await host.link.exec(spec('sh', '-c', script), TIMEOUT)
  const [blocked, ignored, session, pid] = stdout.toString().split('\n')
  expect([blocked, ignored]).toEqual(['SigBlk:\t0000000000000000', 'SigIgn:\t0000000000000000'])
  expect(session?.trim()).toBe(pid)
})

test('many that start at once each have their own output and end', async () => {
  const numbers = Array.from({ length: 30 }, (_, index) => index)
  const stdin = (n: number) => ({ ...TIMEOUT, stdin: Buffer.from(`input ${n}`) })
  const run = (n: number) => host.link.exec(spec('sh', '-c', `cat; echo " output ${n}"; exit ${n}`), stdin(n))
  const results = await Promise.all(numbers.map(run))
  const seen = results.map(({ exit, stdout }) => `${exit.code}: ${stdout.toString()}`)
  expect(seen).toEqual(numbers.map((n) => `${n}: input ${n} output ${n}\n`))
})

test('a launcher that dies is replaced; what it had started is killed, said to be lost, and not run again', async () => {
  const id = newId('x')
  const script = 'echo ran >> ran; echo $$; sleep 1000'
  await host.link.start(id, { ...spec('sh', '-c', script), stdin: 'none' })
  const output = host.link.output(id, 0)[Symbol.asyncIterator]()
  const { value, done } = await output.next()
  if (done === true || value.kind !== 'stdout') throw new Error('it printed no pid')
  const pid = Number(value.data.toString())
  process.kill(launcherPid(), 'SIGKILL')
  await expect(output.next()).rejects.toMatchObject({ code: 'guest_lost' })
  await expect.poll(() => runs(pid)).toBe(false)
  await expect(host.link.start(id, { ...spec('true'), stdin: 'none' })).rejects.toMatchObject({ code: 'guest_lost' })
  expect((await host.link.exec(spec('cat', 'ran'), TIMEOUT)).stdout.toString()).toBe('ran\n')
})
