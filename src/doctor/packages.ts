import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { execa } from 'execa'
import { VivariumError } from '../contracts/errors.ts'
import type { Progress } from '../images/types.ts'

/** A program that must be on PATH, and the Debian package that brings it. */
export interface HostTool {
  tool: string
  package: string
  why: string
}

/** sbin folders count even where PATH leaves them out: mke2fs lives there. */
const EXTRA_PATH = ['/usr/local/sbin', '/usr/sbin', '/sbin']

function isOnPath(tool: string, path: string): boolean {
  return [...path.split(delimiter), ...EXTRA_PATH].some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK)
      return folder !== ''
    } catch {
      return false
    }
  })
}

/** Those of `tools` that this host lacks. */
export function missingTools(tools: readonly HostTool[], path = process.env['PATH'] ?? ''): HostTool[] {
  return tools.filter(({ tool }) => !isOnPath(tool, path))
}

/** The one command that installs what is missing. */
export function installCommand(tools: readonly HostTool[]): string[] {
  const names = [...new Set(tools.map((tool) => tool.package))].toSorted()
  return ['apt-get', 'install', '--yes', '--no-install-recommends', ...names]
}

/**
 * Installs the packages of `tools` with apt, by sudo where this is not root. Rejects with `setup_required` and apt's own
 * words when that fails.
 */
export async function installPackages(tools: readonly HostTool[], progress: Progress): Promise<void> {
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '--']
  const apt = async (step: string, argv: string[]) => {
    progress({ step })
    const [command = '', ...args] = [...sudo, ...argv]
    const { failed, all } = await execa(command, args, {
      all: true,
      reject: false,
      stdin: 'ignore',
      env: { DEBIAN_FRONTEND: 'noninteractive' },
    })
    if (failed)
      throw new VivariumError(
        'setup_required',
        `${argv.join(' ')} failed:\n${(all ?? '').split('\n').slice(-12).join('\n')}`,
      )
  }
  await apt('Reading package lists', ['apt-get', 'update'])
  await apt(`Installing ${installCommand(tools).slice(4).join(' ')}`, installCommand(tools))
}
