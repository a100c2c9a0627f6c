import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { expect } from 'vitest'
import { inTerminal, resizeTerminal } from '../../guest/execs/terminal.ts'

/** Below a shell that tells the exit code, and then the state in which the terminal was left. */
const SCRIPT = '"$@"; echo "code=$?"; stty -a'

/** Runs a program as a person does: in a real terminal, of 24 × 80 characters. Disposing kills what is left of it. */
export function startInTerminal(argv: string[], env: Record<string, string>) {
  const [command, ...args] = inTerminal(['bash', '-c', SCRIPT, 'bash', ...argv], { rows: 24, cols: 80 })
  const child = spawn(command, args, { env, detached: true, stdio: ['pipe', 'pipe', 'inherit'] })
  const pid = child.pid ?? 0
  let shown = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (shown += text))
  return {
    type: (text: string) => void child.stdin.write(text),
    resize: (rows: number, cols: number) => resizeTerminal(pid, { rows, cols }),
    /** Resolves when the text was shown. */
    until: (text: string) => expect.poll(() => shown, { timeout: 60_000 }).toContain(text),
    /** The pid of the program itself. */
    program: () => Number.parseInt(readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1')),
    /** Resolves at the end with the program's exit code, and whether it left the terminal as terminals are. */
    async ended() {
      await once(child, 'close')
      return { code: Number(/code=(\d+)/.exec(shown)?.[1]), restored: /\sopost .* icanon .* echo /s.test(shown) }
    },
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  }
}
