import type { Command } from 'commander'
import type { Template } from '../../contracts/template.ts'
import { connect } from '../connection.ts'
import type { Io } from '../io.ts'
import { number } from '../options.ts'
import { showProgress } from '../progress.ts'
import { formatBytes, table } from '../render.ts'

interface BuildOptions {
  memory?: number
  vcpus?: number
  rebuild?: true
}

export function registerTemplates(program: Command, io: Io): void {
  const template = program
    .command('template')
    .description('Saved machines that others start from: the plain one, and those named in the settings.')

  template
    .command('build')
    .description('Build one, unless it is there and fits (the owner only).')
    .argument('[name]', 'its name in the settings ("template.warm")', 'default')
    .option('--memory <mib>', 'guest memory in MiB', number('memory'))
    .option('--vcpus <n>', 'virtual CPUs', number('vcpus'))
    .option('--rebuild', 'build it again although it fits')
    .action(async (name: string, { memory, vcpus, rebuild }: BuildOptions) => {
      const client = await connect(io, { start: true })
      using progress = showProgress(io.stderr)
      const request = { name, memoryMib: memory, vcpus, rebuild }
      const options = { onProgress: progress, signal: io.signal }
      io.print(summary(await client.templates.build(request, options)))
    })

  template
    .command('list')
    .description('List templates, with each size they were built for.')
    .option('--json', 'print JSON')
    .action(async (options: { json?: true }) => {
      const templates = await (await connect(io)).templates.list()
      if (options.json === true) return io.print(JSON.stringify(templates))
      io.print(table([['TEMPLATE', 'MEMORY', 'VCPUS', 'STATE', 'DISK', 'BUILT', 'LAST USED'], ...templates.map(row)]))
    })

  template
    .command('rm <name>')
    .description('Remove every size of one (the owner only); machines that run from it go on.')
    .action(async (name: string) => {
      await (await connect(io)).templates.remove(name)
      io.print(`${name} removed`)
    })
}

function summary({ name, memoryMib, vcpus, bytes }: Template): string {
  return `${name} is ready: ${memoryMib} MiB, ${vcpus} vCPU, ${formatBytes(bytes)} on disk`
}

function row(template: Template): string[] {
  return [
    template.name,
    `${template.memoryMib} MiB`,
    String(template.vcpus),
    template.reason === null ? template.state : `${template.state}: ${template.reason}`,
    formatBytes(template.bytes),
    template.builtAt ?? '',
    template.lastUsedAt ?? 'never',
  ]
}
