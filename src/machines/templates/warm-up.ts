import { VivariumError } from '../../contracts/errors.ts'
import type { Progress } from '../../images/types.ts'
import { WORKSPACE } from '../../link/protocol.ts'
import type { GuestLink } from '../../link/types.ts'

/** What is run once in a named template. */
export interface WarmScript {
  script: string
  /** Hosts that it may reach besides those of the settings. */
  allow: readonly string[]
  timeoutSeconds: number
}

export interface WarmUpOptions {
  /** The user's own script; undefined for the plain template. */
  warm: WarmScript | undefined
  /** Names that are never part of what changed. */
  exclude: readonly string[]
  progress: Progress
  signal: AbortSignal
}

/**
 * What every task starts sooner or later: run once, its files are in the guest's page cache. Claude Code starts as it does for a
 * task, finds its stdin at its end, and leaves; in a home of its own, so that no two machines have the names it gives itself.
 */
const PROGRAMS = [
  'node -e 0',
  'git --version',
  'tar --version',
  'perl -e 1',
  'HOME=$(mktemp -d) CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 claude -p --input-format stream-json --output-format stream-json --verbose </dev/null; rm -r /tmp/tmp.*',
]

/** How often an empty command is run, so that the agent's own ways are compiled when it is saved. */
const ROUNDS = 30

const WARM_MS = 60_000
const OUTPUT_BYTES = 64 * 1024

/**
 * Brings a fresh guest into the state in which a template saves it. Rejects with `invalid_request` when the user's script
 * fails, with what it said last.
 */
export async function warmUp(
  link: GuestLink,
  { warm, exclude, progress, signal }: WarmUpOptions,
  timeScale: number,
): Promise<void> {
  progress({ step: 'warming up' })
  const spec = { env: {}, cwd: WORKSPACE, user: 'agent' as const }
  const options = { timeoutMs: WARM_MS * timeScale, maxBytes: OUTPUT_BYTES, signal }
  for (const program of PROGRAMS) await link.exec({ ...spec, argv: ['bash', '-c', program] }, options)
  const script = { ...spec, argv: ['bash', '-lc', 'eval "$(cat)"'] }
  for (let round = 0; round < ROUNDS; round++) await link.exec(script, { ...options, stdin: Buffer.from('true') })
  if (warm !== undefined) {
    progress({ step: 'running the warm-up script' })
    await runScript(link, warm, signal)
  }
  // Tasks that bring nothing begin with it as it is.
  const { entries } = await link.tree(WORKSPACE, signal)
  await link.baseline({ root: WORKSPACE, git: entries.length > 0, exclude: [...exclude] }, signal)
  // The script's pages are on the disk, not only in memory, when the disk is saved with it.
  await link.exec({ ...spec, argv: ['sync'] }, options)
}

async function runScript(link: GuestLink, warm: WarmScript, signal: AbortSignal): Promise<void> {
  const { exit, stdout, stderr, timedOut } = await link.exec(
    { argv: ['bash', '-lc', 'eval "$(cat)"'], env: {}, cwd: WORKSPACE, user: 'agent' },
    {
      stdin: Buffer.from(warm.script),
      timeoutMs: warm.timeoutSeconds * 1000,
      maxBytes: OUTPUT_BYTES,
      signal,
    },
  )
  if (exit.code === 0 && !timedOut) return
  const how = timedOut ? `took longer than ${warm.timeoutSeconds} s` : `ended with ${exit.signal ?? exit.code}`
  const said = `${stdout.toString('utf8')}\n${stderr.toString('utf8')}`.trim().slice(-1000)
  throw new VivariumError('invalid_request', `The warm-up script of the template ${how}: ${said}`, {
    field: 'template',
  })
}
