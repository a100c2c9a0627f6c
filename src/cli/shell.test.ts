import { expect, test } from 'vitest'
import { MAIN } from '../../test/support/orchestrator.ts'
import { startInTerminal } from '../../test/support/terminal.ts'
import { VivariumError } from '../contracts/errors.ts'
import { MachineRequest } from '../contracts/machine.ts'
import { escapeDetector } from './terminal.ts'
import { setUpCli } from './testing/set-up.ts'

async function setUp() {
  const cli = await setUpCli()
  const { id } = await cli.machines.create(cli.identity.owner.id, MachineRequest.parse({}))
  return { ...cli, id }
}

function inRealTerminal(url: string, id: string) {
  const env = {
    PATH: process.env['PATH'] ?? '',
    TERM: 'tmux-256color',
    VIVARIUM_URL: url,
    VIVARIUM_API_KEY: 'vv_owner',
  }
  return startInTerminal([process.execPath, MAIN, 'shell', id, '--', 'vi', 'a b'], env)
}

test('with pipes, input goes in, output and stderr come out, and the exit code is the shell’s', async () => {
  await using cli = await setUp()
  const running = cli.vivarium(['shell', cli.id, '--', 'cat', '-n'], { input: ['one\n', Buffer.alloc(300_000, 'x')] })
  const shell = await cli.machines.nextShell()
  expect(shell.request).toEqual({ argv: ['cat', '-n'], terminal: undefined })
  shell.print('oops', 'stderr')
  expect(await running).toEqual({ exitCode: 3, stdout: `one\n${'x'.repeat(300_000)}`, stderr: 'oops' })
})

test('a shell that can’t be had is an error in words; an interrupted one is left', async () => {
  await using cli = await setUp()
  expect(await cli.vivarium(['shell', 'vm_0123456789ab'])).toMatchObject({ exitCode: 2, stderr: /no machine/ })
  cli.machines.refuseShell = new VivariumError('guest_lost', 'The machine went away.')
  expect(await cli.vivarium(['shell', cli.id])).toMatchObject({ exitCode: 1, stderr: /The machine went away/ })
  cli.machines.refuseShell = undefined
  const interrupt = new AbortController()
  const running = cli.vivarium(['shell', cli.id, 'true'], { signal: interrupt.signal, input: [] })
  const shell = await cli.machines.nextShell()
  shell.end = async () => {}
  interrupt.abort(new Error('stopped'))
  expect(await running).toMatchObject({ exitCode: 130 })
  await shell.closed
})

test('in a terminal every key goes to the shell, also Ctrl-C, its size follows, and it is restored at the end', async () => {
  await using cli = await setUp()
  using terminal = inRealTerminal(cli.server.url, cli.id)
  const shell = await cli.machines.nextShell()
  expect(shell.request).toEqual({ argv: ['vi', 'a b'], terminal: { rows: 24, cols: 80, term: 'tmux-256color' } })
  await terminal.until('leave with "exit"')
  shell.print('down\nprompt> ')
  await terminal.until('down\nprompt> ')
  terminal.type('a\x03\x1a\r')
  await expect.poll(() => shell.typed).toBe('a\x03\x1a\r')
  await terminal.resize(50, 120)
  await terminal.until('50x120')
  terminal.type('\x04')
  expect(await terminal.ended()).toEqual({ code: 3, restored: true })
})

test('the terminal is restored also where the connection is cut, the program is told to end, or the machine is lost', async () => {
  await using cli = await setUp()
  const ends: [number, (terminal: ReturnType<typeof inRealTerminal>) => unknown][] = [
    [130, (terminal) => terminal.type('\x1d\x1d\x1d')],
    [130, (terminal) => process.kill(terminal.program(), 'SIGTERM')],
    [1, () => cli.server.close()],
  ]
  for (const [code, end] of ends) {
    using terminal = inRealTerminal(cli.server.url, cli.id)
    const shell = await cli.machines.nextShell()
    shell.print('prompt> ')
    await terminal.until('prompt> ')
    await end(terminal)
    expect(await terminal.ended()).toEqual({ code, restored: true })
    await shell.closed
  }
})

test('only three Ctrl-] in a row cut the connection', () => {
  const typed = (...texts: string[]) => {
    const escapes = escapeDetector()
    return texts.map((text) => escapes(Buffer.from(text))).at(-1)
  }
  expect(typed('\x1d', '\x1d', '\x1d')).toBe(true)
  expect(typed('abc\x1d\x1d\x1dq')).toBe(true)
  expect(typed('\x1d', '\x1d', 'x', '\x1d')).toBe(false)
})
