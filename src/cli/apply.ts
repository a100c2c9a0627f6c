import { dirname } from 'node:path'
import type { Readable } from 'node:stream'
import { execa } from 'execa'
import { VivariumError } from '../contracts/errors.ts'

/**
 * Applies a git patch to the files of a folder, whether or not that is a repository; with `check` only tries. Resolves with
 * git's words about what changed; rejects with `conflict` where the patch does not fit, and then has changed nothing.
 */
export async function applyPatch(folder: string, patch: Readable, options: { check: boolean }): Promise<string> {
  const args = ['apply', '--whitespace=nowarn', '--stat', '--summary', options.check ? '--check' : '--apply']
  // In a subfolder of a repository git would read the paths from the repository's root, and pass over all of them in silence.
  const env = { GIT_CEILING_DIRECTORIES: dirname(folder) }
  const { code, exitCode, stdout, stderr } = await execa('git', args, { cwd: folder, env, input: patch, reject: false })
  if (code === 'ENOENT') throw new VivariumError('setup_required', 'Applying changes needs git: install git.')
  if (exitCode !== 0) throw new VivariumError('conflict', `The changes do not apply here:\n${stderr}`)
  return stdout
}
