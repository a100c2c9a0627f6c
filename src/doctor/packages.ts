import { execa } from 'execa'
import { VivariumError } from '../contracts/errors.ts'
import { installCommand, type HostTool } from '../images/host-tools.ts'
import type { Progress } from '../images/types.ts'

/**
 * Installs the packages of `tools` with apt, by sudo where this is not root. Rejects with `setup_required` and apt's own
 * words when that fails.
 */
export async function installPackages(tools: HostTool[], progress: Progress): Promise<void> {
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '--']
  const apt = async (step: string, commandLine: string) => {
    progress({ step })
    const [command = '', ...args] = [...sudo, ...commandLine.split(' ')]
    const options = { all: true, reject: false, stdin: 'ignore', env: { DEBIAN_FRONTEND: 'noninteractive' } } as const
    const { failed, all } = await execa(command, args, options)
    if (!failed) return
    const words = (all ?? '').split('\n').slice(-12).join('\n')
    throw new VivariumError('setup_required', `${commandLine} failed:\n${words}`)
  }
  await apt('Reading package lists', 'apt-get update')
  await apt(`Installing ${[...new Set(tools.map((tool) => tool.package))].join(', ')}`, installCommand(tools))
}
