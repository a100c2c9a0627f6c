import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { ShellRequest } from '../contracts/shell.ts'
import { WORKSPACE } from '../link/constants.ts'
import type { ExecSpec, GuestLink } from '../link/types.ts'
import { exitCodeOf } from './exec.ts'
import type { MachineLease, Shell, ShellOutput } from './types.ts'

/** What a process may take to end after it was hung up on, before scaling. */
const HANG_UP_MS = 3000

function specOf({ argv, terminal }: ShellRequest): ExecSpec {
  const spec = { argv: argv ?? ['bash', '-l'], cwd: WORKSPACE, user: 'agent', stdin: 'pipe' } as const
  if (terminal === undefined) return { ...spec, env: {} }
  const { rows, cols, term } = terminal
  // Somebody is there to answer.
  return { ...spec, env: { TERM: term, GIT_TERMINAL_PROMPT: '1' }, tty: { rows, cols } }
}

/** Starts a process for somebody to talk to. The shell takes over the lease, also where it can't be started. */
export async function openShell(lease: MachineLease, request: ShellRequest, signal?: AbortSignal): Promise<Shell> {
  using stack = new DisposableStack()
  const { link, timeScale } = stack.use(lease).machine
  const id = newId('x')
  const left = new AbortController()
  let given = 0
  let next = 0
  let ended = false

  async function* output(): AsyncGenerator<ShellOutput> {
    for await (const piece of link.output(id, next, left.signal)) {
      next = piece.next
      ended = piece.kind === 'exit'
      yield piece.kind === 'exit' ? { kind: 'exit', exitCode: exitCodeOf(piece.exit) } : piece
    }
  }

  try {
    await link.start(id, specOf(request), signal)
  } catch (error) {
    // It may have been started before we stopped waiting.
    link.kill(id, 'SIGKILL').catch(() => {}) // never was, or its guest is lost
    throw error
  }
  const owned = stack.move()
  return {
    output: output(),
    async write(data) {
      const at = given
      given += data.length
      await link.input(id, at, data, false, left.signal)
    },
    end: () => link.input(id, given, Buffer.alloc(0), true, left.signal),
    async resize(size) {
      if (request.terminal === undefined)
        throw new VivariumError('invalid_request', 'This process has no terminal to resize.')
      await link.resize(id, size, left.signal)
    },
    async [Symbol.asyncDispose]() {
      using _ = owned
      left.abort()
      if (!ended) await hangUp(link, id, next, HANG_UP_MS * timeScale).catch(() => {}) // a guest that is lost has no processes
    },
  }
}

/**
 * Ends a process as a closed terminal does; one that has not ended within the grace is killed, with all it started. Otherwise what
 * ignores hang-ups in the background (nohup, tmux) lives on.
 */
async function hangUp(link: GuestLink, id: string, from: number, graceMs: number): Promise<void> {
  await link.kill(id, 'SIGHUP')
  try {
    for await (const piece of link.output(id, from, AbortSignal.timeout(graceMs))) if (piece.kind === 'exit') return
  } catch {
    // Not in time.
  }
  await link.kill(id, 'SIGKILL')
}
