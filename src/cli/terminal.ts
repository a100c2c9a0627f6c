import { spawnSync } from 'node:child_process'
import { ReadStream, WriteStream } from 'node:tty'
import type { TerminalSize } from '../contracts/shell.ts'
import type { Io } from './io.ts'

const MAX_CHARACTERS = 1000

/** Ctrl-] */
const ESCAPE = 0x1d
const ESCAPES = 3
const ESCAPE_MS = 1000

/** The terminal that somebody sits at. */
export interface Terminal {
  input: ReadStream
  size(): TerminalSize
  /** Calls `listener` whenever the size changes, until disposed. */
  onResize(listener: () => void): Disposable
  /** Every key arrives at once and as it is, Ctrl-C included, and so is what is shown, until disposed. Node restores the terminal where the process exits before. */
  raw(): Disposable
}

/** The terminal of this process, or undefined where its input or output is something else. */
export function findTerminal({ stdin, stdout }: Io): Terminal | undefined {
  if (!(stdin instanceof ReadStream && stdout instanceof WriteStream)) return undefined
  return {
    input: stdin,
    size: () => ({ rows: within(stdout.rows), cols: within(stdout.columns) }),
    onResize(listener) {
      stdout.on('resize', listener)
      return { [Symbol.dispose]: () => void stdout.off('resize', listener) }
    },
    raw() {
      stdin.setRawMode(true)
      // Node leaves the terminal to turn a line feed into two characters, which the guest's does already, or has good reason not to.
      spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] })
      return { [Symbol.dispose]: () => void stdin.setRawMode(false) }
    },
  }
}

function within(characters: number): number {
  return Math.min(Math.max(characters, 1), MAX_CHARACTERS)
}

/** Tells whether somebody asks to leave: Ctrl-] three times within a second, as of `machinectl shell`. To be shown all that is typed. */
export function escapeDetector(): (typed: Buffer) => boolean {
  let times: number[] = []
  return (typed) => {
    for (const byte of typed) {
      const now = performance.now()
      times = byte === ESCAPE ? [...times.filter((time) => now - time < ESCAPE_MS), now] : []
      if (times.length === ESCAPES) return true
    }
    return false
  }
}
