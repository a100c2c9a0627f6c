import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ShellRequest } from '../contracts/shell.ts'
import { startTestAgent, startTestHost, type TestAgent, type TestHost } from '../link/testing.ts'
import { openShell } from './shell.ts'
import type { Machine, Shell } from './types.ts'

const TERMINAL = { rows: 24, cols: 80, term: 'xterm' }
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

/** A shell in the real agent, outside of a machine: in another folder. */
async function open(request: Partial<ShellRequest>, timeScale = 1) {
  const { link, workspace } = host
  const start: typeof link.start = (id, spec, signal) => link.start(id, { ...spec, cwd: workspace }, signal)
  const lease = { ended: false }
  const machine = { link: { ...link, start }, timeScale } as unknown as Machine
  const shell = await openShell(
    { machine, [Symbol.dispose]: () => void (lease.ended = true) },
    { argv: undefined, terminal: undefined, ...request },
  )
  return { shell, lease }
}

async function heard(shell: Shell) {
  const said = { stdout: '', stderr: '', exitCode: -1 }
  for await (const piece of shell.output) {
    if (piece.kind === 'exit') said.exitCode = piece.exitCode
    else said[piece.kind] += piece.data.toString()
  }
  return said
}

/** The pid that a shell prints first; nothing is read after it. */
async function firstPid(shell: Shell): Promise<number> {
  const pieces = shell.output[Symbol.asyncIterator]()
  let line = ''
  while (!line.includes('\n')) {
    const { value, done } = await pieces.next()
    if (done === true || value.kind === 'exit') throw new Error(`it ended: ${line}`)
    line += value.data.toString()
  }
  return Number.parseInt(line)
}

function alive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))
  } catch {
    return false
  }
}

test('without a terminal a login shell reads its commands from the pipe, and its exit code is passed on', async () => {
  const { shell, lease } = await open({})
  await shell.write(Buffer.from('echo out; echo err >&2; '))
  await shell.write(Buffer.from('test -t 0 || exit 9\n'))
  await shell.end()
  expect(await heard(shell)).toEqual({ stdout: 'out\n', stderr: 'err\n', exitCode: 9 })
  await expect(shell.resize({ rows: 1, cols: 1 })).rejects.toMatchObject({ code: 'invalid_request' })
  expect(lease.ended).toBe(false)
  await shell[Symbol.asyncDispose]()
  expect(lease.ended).toBe(true)
})

test('a terminal has the size and the kind that were asked for, and takes another size', async () => {
  const { shell } = await open({ terminal: TERMINAL, argv: ['bash', '-c', 'stty size; read; stty size; echo $TERM'] })
  await using _ = shell
  await shell.resize({ rows: 50, cols: 120 })
  await shell.write(Buffer.from('\r'))
  const { stdout, exitCode } = await heard(shell)
  expect({ stdout: stdout.split('\r\n').slice(-4), exitCode }).toEqual({
    stdout: ['', '50 120', 'xterm', ''],
    exitCode: 0,
  })
})

test('who leaves hangs up: the process ends, what ignores that in the background lives on', async () => {
  const script = '(trap "" HUP; echo $BASHPID; exec sleep 1000) & cat'
  const { shell, lease } = await open({ terminal: TERMINAL, argv: ['bash', '-c', script] })
  const pid = await firstPid(shell)
  await shell[Symbol.asyncDispose]()
  expect(lease.ended).toBe(true)
  expect(alive(pid)).toBe(true)
  process.kill(pid, 'SIGKILL')
})

test('a process that ignores being hung up on is killed', async () => {
  const script = 'trap "" HUP; echo $$; while :; do sleep 0.1; done'
  const { shell } = await open({ argv: ['bash', '-c', script] }, 0.1)
  const pid = await firstPid(shell)
  expect(alive(pid)).toBe(true)
  await shell[Symbol.asyncDispose]()
  await expect.poll(() => alive(pid)).toBe(false)
})

test('a process that cannot be started ends the lease', async () => {
  const lease = { ended: false }
  const machine = { link: host.link, timeScale: 1 } as unknown as Machine
  // There is no such folder outside of a machine.
  const opening = openShell(
    { machine, [Symbol.dispose]: () => void (lease.ended = true) },
    { argv: ['/nonexistent'], terminal: undefined },
  )
  await expect(opening).rejects.toMatchObject({ code: 'invalid_request' })
  expect(lease.ended).toBe(true)
})
