import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { VivariumError } from '../contracts/errors.ts'
import { readStdin, type Io } from './io.ts'

/** A value that must not be seen: one line asked for without echo where there is a terminal, else all of standard input. */
export async function readSecret(io: Io, prompt: string): Promise<string> {
  if (!('isTTY' in io.stdin && io.stdin.isTTY === true)) return (await readStdin(io)).replace(/\r?\n$/, '')
  io.stderr.write(`${prompt} (not shown): `)
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  // With `terminal` readline puts the terminal into raw mode, and what it would echo goes nowhere.
  const lines = createInterface({ input: io.stdin, output: nowhere, terminal: true, historySize: 0, signal: io.signal })
  try {
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    lines.once('line', resolve)
    lines.once('SIGINT', () => lines.close())
    lines.once('close', () => reject(new VivariumError('cancelled', 'No value was given: nothing is stored.')))
    return await promise
  } finally {
    lines.close()
    io.stderr.write('\n')
  }
}
