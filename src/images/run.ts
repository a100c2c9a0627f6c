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

/**
 * Runs one tool of a build to its end. It runs in a process namespace that ends with this process, however that ends: a
 * killed build leaves nothing running. Rejects with `image_failed`, quoting the tool's last lines.
 */
export async function run(tool: string, args: string[], options: RunOptions): Promise<string> {
  const contained = ['--pdeathsig', 'KILL', 'unshare', '--fork', '--pid', '--kill-child', '--mount-proc', tool, ...args]
  const child = execa('setpriv', contained, {
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
    const tail = result.all.trimEnd().split('\n').slice(-8).join('\n')
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
