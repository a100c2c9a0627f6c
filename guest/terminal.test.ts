import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newId } from '../src/contracts/ids.ts'
import { TERMINAL_SPOOL_BYTES } from '../src/link/constants.ts'
import { startTestAgent, startTestHost, type TestAgent, type TestHost } from '../src/link/testing.ts'
import type { ExecExit } from '../src/link/types.ts'

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

/** A process in a terminal, driven as a person would: type, and wait until something is shown. */
async function inTerminal(...argv: string[]) {
  const { link, workspace } = host
  const id = newId('x')
  const tty = { rows: 30, cols: 100 }
  await link.start(id, { argv, env: { TERM: 'xterm' }, cwd: workspace, user: 'agent', stdin: 'pipe', tty })
  const pieces = link.output(id, 0)[Symbol.asyncIterator]()
  let given = 0
  let shown = ''
  let exit: ExecExit | undefined
  /** Resolves with false at the end. */
  const read = async () => {
    const { value, done } = await pieces.next()
    if (done === true) return false
    if (value.kind === 'exit') exit = value.exit
    else shown += value.data.toString()
    return true
  }
  return {
    resize: (rows: number, cols: number) => link.resize(id, { rows, cols }),
    hangUp: () => link.input(id, given, Buffer.alloc(0), true),
    async type(text: string) {
      await link.input(id, given, Buffer.from(text), false)
      given += text.length
    },
    /** Everything shown so far, which has `text` in it. */
    async until(text: string) {
      while (!shown.includes(text)) if (!(await read())) throw new Error(`it ended before "${text}": ${shown}`)
      return shown
    },
    async ended() {
      while (await read());
      return { exit, shown }
    },
  }
}

/** Waits, with what a signal does. */
function waiting(signal: string, does: string) {
  return inTerminal('bash', '-c', `trap '${does}' ${signal}; echo ready; while :; do sleep 0.1; done`)
}

test('a process in a terminal controls it, knows its size, and its exit code is its own', async () => {
  const script = 'stty size; tty; echo $$ $(ps -o tpgid= -p $$); echo error >&2; test -t 0 && exit 3'
  const { exit, shown } = await (await inTerminal('bash', '-c', script)).ended()
  expect(exit).toMatchObject({ code: 3, signal: null })
  const [size, name, groups, error] = shown.split('\r\n')
  expect([size, name?.replace(/\d+$/, 'N'), error]).toEqual(['30 100', '/dev/pts/N', 'error'])
  const [pid, foreground] = (groups ?? '').split(' ')
  expect(foreground).toBe(pid)
})

test('what is typed is read, and Ctrl-C interrupts', async () => {
  const reader = await inTerminal('bash', '-c', 'read -p "name? " name; echo "hello $name"')
  await reader.until('name? ')
  await reader.type('ada\r')
  expect(await reader.ended()).toMatchObject({ exit: { code: 0 }, shown: 'name? ada\r\nhello ada\r\n' })

  const loop = await waiting('INT', 'echo caught; exit 5')
  await loop.until('ready')
  await loop.type('\x03')
  expect(await loop.ended()).toMatchObject({ exit: { code: 5 }, shown: expect.stringContaining('caught') })
})

test('another size reaches the programs, also one that was told before the terminal was there', async () => {
  const early = await inTerminal('bash', '-c', 'read; stty size')
  await early.resize(7, 9)
  await early.type('\r')
  expect((await early.ended()).shown).toContain('7 9\r\n')

  const loop = await waiting('WINCH', 'stty size; exit 0')
  await loop.until('ready')
  await loop.resize(50, 120)
  expect(await loop.ended()).toMatchObject({ exit: { code: 0 }, shown: 'ready\r\n50 120\r\n' })
  await loop.resize(1, 1)
})

test('the end of the input hangs up', async () => {
  const loop = await waiting('HUP', 'exit 7')
  await loop.until('ready')
  await loop.hangUp()
  expect((await loop.ended()).exit).toMatchObject({ code: 7 })
})

test('a command that is not there is said in the terminal; what is left running does not hold its end back', async () => {
  expect(await (await inTerminal('/nonexistent')).ended()).toMatchObject({
    exit: { code: 127 },
    shown: expect.stringContaining('/nonexistent: No such file'),
  })
  const left = await (await inTerminal('bash', '-c', 'trap "" HUP; sleep 1000 & echo $!')).ended()
  expect(left.exit).toMatchObject({ code: 0 })
  const pid = Number(left.shown)
  expect(pid).toBeGreaterThan(1)
  process.kill(pid, 'SIGKILL')
})

test('a flood is held back where nobody reads, and can be interrupted there', async () => {
  const flood = await inTerminal('bash', '-c', 'echo $$.; exec yes')
  const pid = Number.parseInt(await flood.until('.'))
  const written = () => Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1])
  const stands = async () => {
    const before = written()
    await sleep(300)
    return written() === before
  }
  await expect.poll(stands, { timeout: 20_000 }).toBe(true)
  expect(written()).toBeLessThan(2 * TERMINAL_SPOOL_BYTES)
  await flood.type('\x03')
  const { exit, shown } = await flood.ended()
  expect(exit).toMatchObject({ signal: 'SIGINT' })
  expect(shown.length).toBeLessThan(3 * TERMINAL_SPOOL_BYTES)
})
