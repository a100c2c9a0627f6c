import { VivariumError } from '../../contracts/errors.ts'
import type { GuestImage, Progress } from '../../images/types.ts'
import { WORKSPACE } from '../../link/protocol.ts'
import type { GuestLink } from '../../link/types.ts'
import type { WarmScript } from './templates.ts'

export interface BakeOptions {
  /** Where the saved machine is to be; does not exist yet. */
  folder: string
  memoryMib: number
  vcpus: number
  memory: 'mapped' | 'stream'
  image: GuestImage
  /** The user's own script; undefined for the plain template. */
  warm: WarmScript | undefined
  progress: Progress
  signal: AbortSignal | undefined
}

/** What every task starts sooner or later: run once, its files are in the guest's page cache. */
const PROGRAMS = ['node -e 0', 'claude --version', 'git --version', 'bash -lc true', 'tar --version', 'perl -e 1']

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
  { warm, progress, signal }: Pick<BakeOptions, 'warm' | 'progress' | 'signal'>,
  timeScale: number,
): Promise<void> {
  progress({ step: 'warming up' })
  const spec = { env: {}, cwd: WORKSPACE, user: 'agent' as const }
  const options = { timeoutMs: WARM_MS * timeScale, maxBytes: OUTPUT_BYTES, ...(signal && { signal }) }
  for (const program of PROGRAMS) await link.exec({ ...spec, argv: ['bash', '-c', program] }, options)
  for (let round = 0; round < ROUNDS; round++) await link.exec({ ...spec, argv: ['true'] }, options)
  if (warm !== undefined) {
    progress({ step: 'running the warm-up script' })
    await runScript(link, warm, signal)
  }
  // The script's pages are on the disk, not only in memory, when the disk is saved with it.
  await link.exec({ ...spec, argv: ['sync'] }, options)
}

async function runScript(link: GuestLink, warm: WarmScript, signal: AbortSignal | undefined): Promise<void> {
  const { exit, stdout, stderr, timedOut } = await link.exec(
    { argv: ['bash', '-lc', 'eval "$(cat)"'], env: {}, cwd: WORKSPACE, user: 'agent' },
    {
      stdin: Buffer.from(warm.script),
      timeoutMs: warm.timeoutSeconds * 1000,
      maxBytes: OUTPUT_BYTES,
      ...(signal && { signal }),
    },
  )
  if (exit.code === 0 && !timedOut) return
  const how = timedOut ? `took longer than ${warm.timeoutSeconds} s` : `ended with ${exit.signal ?? exit.code}`
  const said = `${stdout.toString('utf8')}\n${stderr.toString('utf8')}`.trim().slice(-1000)
  throw new VivariumError('invalid_request', `The warm-up script of the template ${how}: ${said}`, {
    field: 'template',
  })
}
