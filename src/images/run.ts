import { execa } from 'execa'
import { VivariumError } from '../contracts/errors.ts'
import { SOURCE_DATE_EPOCH } from './recipe.ts'

export interface RunOptions {
  signal: AbortSignal | undefined
  cwd?: string
  input?: string
  /** Called for each line the tool prints, on either stream. */
  onLine?: (line: string) => void
}

/** What a build's tools see of this process's environment: proxies and certificates, for fetching; not its secrets. */
const PASSED = /^(?:https?_proxy|no_proxy|ftp_proxy|all_proxy|SSL_CERT_(?:FILE|DIR)|NODE_EXTRA_CA_CERTS|TMPDIR)$/i

/** Ends the tool with this process; for root, in a process namespace, so that all that the tool started ends too. */
function contained(tool: string, args: string[]): string[] {
  const namespace = process.getuid?.() === 0 ? ['unshare', '--fork', '--pid', '--kill-child', '--mount-proc'] : []
  return ['--pdeathsig', 'KILL', ...namespace, tool, ...args]
}

/**
 * Runs one tool of a build to its end, or to the end of this process, however that comes: a killed build leaves nothing
 * running. Returns what it printed on stdout. Rejects with `image_failed`, quoting the tool's last lines.
 */
export async function run(tool: string, args: string[], options: RunOptions): Promise<string> {
  const child = execa('setpriv', contained(tool, args), {
    env: buildEnvironment(),
    extendEnv: false,
    input: options.input ?? '',
    all: true,
    reject: false,
    forceKillAfterDelay: false,
    killSignal: 'SIGKILL',
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  })
  if (options.onLine !== undefined) for await (const line of child.iterable({ from: 'all' })) options.onLine(line)
  const result = await child
  options.signal?.throwIfAborted()
  if (result.failed) {
    const lines = result.all.trimEnd().split('\n')
    // apt marks what went wrong; other tools say it last.
    const errors = lines.filter((line) => line.startsWith('E: ')).slice(0, 3)
    const tail = (errors.length > 0 ? errors : lines.slice(-8)).join('\n')
    throw new VivariumError(
      'image_failed',
      `Building the guest image failed in ${tool}: ${tail || result.shortMessage}`,
    )
  }
  return result.stdout
}

function buildEnvironment(): NodeJS.ProcessEnv {
  const passed = Object.entries(process.env).filter(([name]) => PASSED.test(name))
  return {
    ...Object.fromEntries(passed),
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/root',
    LC_ALL: 'C.UTF-8',
    DEBIAN_FRONTEND: 'noninteractive',
    SOURCE_DATE_EPOCH: String(SOURCE_DATE_EPOCH),
    // mke2fs and debugfs of e2fsprogs before 1.47.1 know only this name of it.
    E2FSPROGS_FAKE_TIME: String(SOURCE_DATE_EPOCH),
  }
}
