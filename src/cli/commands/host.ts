import type { Command } from 'commander'
import { composeHost } from '../../compose.ts'
import { loadConfig } from '../../config/load.ts'
import { examine } from '../../doctor/examine.ts'
import { mend } from '../../doctor/mend.ts'
import type { Check, Report } from '../../doctor/types.ts'
import { findVersions } from '../../doctor/versions.ts'
import type { Io } from '../io.ts'
import { showProgress } from '../progress.ts'

export function registerHost(program: Command, io: Io, exitWith: (code: number) => void): void {
  const host = () => composeHost(loadConfig({}, undefined, io.env).config)

  program
    .command('image')
    .description('The guest image.')
    .command('build')
    .description('Build it, unless it is already built.')
    .action(async () => {
      using progress = showProgress(io.stderr)
      const { manifest, root } = await host().doctor.images.ensure(progress, io.signal)
      io.print(`${manifest.key} ${root}`)
    })

  program
    .command('doctor')
    .description('Say what this host has, what it lacks, and which engine will be used.')
    .option('--json', 'print JSON')
    .option('--fix', 'install what is missing, build the guest image, remove what nobody owns any more')
    .action(async (options: { json?: true; fix?: true }) => {
      const { doctor } = host()
      if (options.fix === true) {
        using progress = showProgress(io.stderr)
        await mend(doctor, progress, io.signal)
      }
      const report = await examine(doctor, io.signal)
      if (options.json === true) io.print(JSON.stringify(report))
      else print(io, report)
      exitWith(report.ready ? 0 : 1)
    })

  program
    .command('version')
    .description('Versions of this program and of each engine found.')
    .option('--json', 'print JSON')
    .action(async (options: { json?: true }) => {
      const versions = await findVersions(host().doctor, io.signal)
      if (options.json === true) return io.print(JSON.stringify(versions))
      io.print(`vivarium ${versions.version} (Node.js ${versions.node})`)
      io.print(`Claude Code ${versions.claudeCode ?? 'not installed yet: vivarium image build'}`)
      for (const { engine, version } of versions.engines) io.print(`${engine} ${version ?? 'not found'}`)
    })
}

function print(io: Io, report: Report): void {
  const marks: Record<Check['status'], string> = {
    ok: io.paint.green('✓'),
    warning: io.paint.orange('!'),
    missing: io.paint.red('✗'),
  }
  for (const check of report.checks) {
    io.print(`${marks[check.status]} ${check.name}: ${check.detail}`)
    if (check.fix !== null) io.print(`    ${io.paint.bold(check.fix)}`)
  }
  io.print(
    report.ready ? io.paint.green('Ready to run tasks.') : 'Not ready yet: "vivarium doctor --fix" mends what it can.',
  )
}
