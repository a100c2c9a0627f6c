import type { Writable } from 'node:stream'
import type { Environment } from '../config/resolve.ts'
import { palette, type Palette } from './colour.ts'

/** What a command may touch of the outside, so that tests can stand in for a terminal. */
export interface Io {
  stdin: NodeJS.ReadableStream
  stdout: Writable
  stderr: Writable
  env: Environment
  cwd: string
  /** Aborts at the first SIGINT or SIGTERM. */
  signal: AbortSignal
  /** For what is printed on stdout. */
  paint: Palette
  print(line: string): void
  /** A line on stderr: progress and messages, never data. */
  note(line: string): void
}

function isTerminal(stream: Writable): boolean {
  return 'isTTY' in stream && stream.isTTY === true
}

/** The process's own streams. `FORCE_COLOR` paints even where stdout is no terminal. */
export function processIo(signal: AbortSignal): Io {
  const { env, stdin, stdout, stderr } = process
  const coloured = !env['NO_COLOR'] && (isTerminal(stdout) || Boolean(env['FORCE_COLOR']))
  return {
    stdin,
    stdout,
    stderr,
    env,
    cwd: process.cwd(),
    signal,
    paint: palette(coloured),
    print: (line) => void stdout.write(`${line}\n`),
    note: (line) => void stderr.write(`${line}\n`),
  }
}

/** Whether bytes written to stdout end on somebody's screen. */
export function printsToTerminal(io: Io): boolean {
  return isTerminal(io.stdout)
}

/** All of standard input as text. */
export async function readStdin(io: Io): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of io.stdin) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks).toString()
}

/** Resolves once the signal is aborted. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
