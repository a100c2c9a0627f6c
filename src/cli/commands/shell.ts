import { on, once } from 'node:events'
import type { Command } from 'commander'
import type { ShellConnection } from '../../client/types.ts'
import { connect } from '../connection.ts'
import type { Io } from '../io.ts'
import { escapeDetector, findTerminal, type Terminal } from '../terminal.ts'
import { tellSuspended } from './machines.ts'

/** As after a Ctrl-C. */
const EXIT_LEFT = 130

export function registerShell(program: Command, io: Io, exitWith: (code: number) => void): void {
  program
    .command('shell')
    .description('Open a shell in a machine, as the user "agent", in /workspace; its exit code is passed on.')
    .argument('<vm>', 'the machine')
    .argument('[command...]', 'what to run instead of a login shell, after "--"')
    .passThroughOptions()
    .action(async (id: string, words: string[]) => {
      const argv = words[0] === '--' ? words.slice(1) : words
      const client = await connect(io)
      await tellSuspended(io, client, id)
      const left = new AbortController()
      const signal = AbortSignal.any([io.signal, left.signal])
      const terminal = findTerminal(io)
      const options = { signal, ...(argv.length > 0 && { argv }), ...(terminal && { terminal: kindOf(terminal, io) }) }
      const connection = await client.vms.shell(id, options)
      try {
        if (terminal === undefined) return exitWith(await talk(io, connection))
        io.note(`${id}: leave with "exit" or Ctrl-D; Ctrl-] three times cuts the connection. The machine stays.`)
        exitWith(await talkRaw(io, terminal, connection, () => left.abort()))
      } catch (error) {
        if (!left.signal.aborted) throw error
        io.note(`\n${id}: the connection was cut, and the shell is hung up on.`)
        exitWith(EXIT_LEFT)
      } finally {
        connection.close()
      }
    })
}

function kindOf(terminal: Terminal, io: Io) {
  const term = io.env['TERM']
  return { ...terminal.size(), ...(term && { term }) }
}

/** Hands every key to the shell, and tells it the terminal's size. Resolves with its exit code; the terminal is then as it was. */
async function talkRaw(io: Io, terminal: Terminal, connection: ShellConnection, leave: () => void): Promise<number> {
  using _raw = terminal.raw()
  using _resize = terminal.onResize(() => void connection.resize(terminal.size()))
  const escapes = escapeDetector()
  return await talk(io, connection, (typed) => {
    if (escapes(typed)) leave()
  })
}

/** Carries bytes both ways until the process ends; resolves with its exit code. `onTyped` sees what goes in. */
async function talk(io: Io, connection: ShellConnection, onTyped: (typed: Buffer) => void = () => {}): Promise<number> {
  const over = new AbortController()
  const typing = type(io.stdin, connection, onTyped, over.signal)
  try {
    for await (const piece of connection.output) {
      if (piece.kind === 'exit') return piece.exitCode
      if (!io[piece.kind].write(piece.data)) await once(io[piece.kind], 'drain')
    }
    throw new Error('the output of a shell ended without its exit')
  } finally {
    over.abort()
    await typing
  }
}

/** Sends what is typed, no faster than it is taken, and the end of it. Resolves when there is no more, or nobody to take it. */
async function type(
  input: Io['stdin'],
  connection: ShellConnection,
  onTyped: (typed: Buffer) => void,
  over: AbortSignal,
): Promise<void> {
  try {
    for await (const [typed] of on(input, 'data', { close: ['end'], highWaterMark: 1, signal: over })) {
      const bytes = Buffer.from(typed as Buffer | string)
      onTyped(bytes)
      await connection.write(bytes)
    }
    await connection.end()
  } catch (error) {
    if (!over.aborted) throw error
  } finally {
    input.pause()
  }
}
