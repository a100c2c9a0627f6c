import { constants } from 'node:os'
import type { ExecRequest, ExecResponse } from '../contracts/machine.ts'
import { newId } from '../contracts/ids.ts'
import type { ExecExit, ExecOutput, ExecSpec, GuestLink } from '../link/types.ts'

/** Kept of each output stream of a command that is run to its end. */
const MAX_OUTPUT_BYTES = 1024 * 1024

/** As a shell reports it: the exit code, or 128 + the number of the signal that ended the process. */
export function exitCodeOf({ code, signal }: ExecExit): number {
  if (code !== null) return code
  const number = Object.entries(constants.signals).find(([name]) => name === signal)?.[1]
  return 128 + (number ?? 0)
}

/** What the guest is asked to run: a `command` goes to a login shell, `argv` runs as it is. */
function specOf({ argv, command = '', env, cwd }: ExecRequest): Omit<ExecSpec, 'stdin'> {
  return { argv: argv ?? ['bash', '-lc', command], env, cwd, user: 'agent' }
}

/** Runs a command to its end. */
export async function runCommand(link: GuestLink, request: ExecRequest, signal?: AbortSignal): Promise<ExecResponse> {
  const result = await link.exec(specOf(request), {
    timeoutMs: request.timeoutSeconds * 1000,
    maxBytes: MAX_OUTPUT_BYTES,
    // None is /dev/null, which costs no request.
    ...(request.stdin !== '' && { stdin: Buffer.from(request.stdin) }),
    ...(signal && { signal }),
  })
  return {
    exitCode: exitCodeOf(result.exit),
    stdout: result.stdout.toString('utf8'),
    stderr: result.stderr.toString('utf8'),
    truncated: result.truncated,
    timedOut: result.timedOut,
  }
}

/** Runs a command and yields its output as it comes, then its exit. Kills it on time-out, on abort, and when the consumer leaves. */
export async function* streamCommand(
  link: GuestLink,
  request: ExecRequest,
  signal?: AbortSignal,
): AsyncGenerator<ExecOutput> {
  const id = newId('x')
  const stdin = Buffer.from(request.stdin)
  await link.start(id, { ...specOf(request), stdin: stdin.length === 0 ? 'none' : 'pipe' }, signal)
  // Best effort: a guest that can't be told any more is gone, and the output says so.
  const kill = () => link.kill(id, 'SIGKILL').catch(() => {})
  const timer = setTimeout(kill, request.timeoutSeconds * 1000)
  let ended = false
  try {
    // Alongside the output: a command that writes before it reads would block both otherwise. One that ends without reading
    // refuses its input, which is its right.
    if (stdin.length > 0) void link.input(id, 0, stdin, true, signal).catch(() => {})
    for await (const piece of link.output(id, 0, signal)) {
      ended = piece.kind === 'exit'
      yield piece
    }
  } finally {
    clearTimeout(timer)
    if (!ended) await kill()
  }
}
