import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isSea } from 'node:sea'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { execa } from 'execa'
import { readAsset } from '../../assets.ts'
import { VivariumError } from '../../contracts/errors.ts'
import type { Io } from '../io.ts'

const UNITS = ['vivarium.service', 'vivarium.socket'] as const

/** Where the units that ship with the program name it. */
const SHIPPED_PROGRAM = '/usr/local/bin/vivarium'

export function registerService(program: Command, io: Io): void {
  const service = program.command('service').description('The server as a service of systemd.')

  service
    .command('print')
    .description('Print the units that "install" would write.')
    .action(() => {
      for (const name of UNITS) io.print(`# ${name}\n${unit(name)}`)
    })

  service
    .command('install')
    .description('Write the units for this program, and tell systemd of them.')
    .option('--to <dir>', 'write them there, and tell nobody')
    .action(async ({ to }: { to?: string }) => {
      const folder = to ?? '/etc/systemd/system'
      try {
        mkdirSync(folder, { recursive: true })
        for (const name of UNITS) writeFileSync(join(folder, name), unit(name), { mode: 0o644 })
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        throw new VivariumError('setup_required', `The units can't be written to ${folder}: ${why}`, { cause: error })
      }
      for (const name of UNITS) io.print(join(folder, name))
      if (to !== undefined) return
      const { failed, shortMessage } = await execa('systemctl', ['daemon-reload'], { reject: false, stdin: 'ignore' })
      if (failed) throw new VivariumError('setup_required', `systemd could not be told of the units: ${shortMessage}`)
      io.note('Start it, now and after each boot: systemctl enable --now vivarium.socket vivarium.service')
    })
}

/** A unit, for the program that runs. */
function unit(name: (typeof UNITS)[number]): string {
  const path = isSea() ? process.execPath : fileURLToPath(new URL('../../../vivarium', import.meta.url))
  return readAsset(`systemd/${name}`)
    .toString()
    .replace(`ExecStart=${SHIPPED_PROGRAM}`, `ExecStart=${quoted(path)}`)
}

/** A path as one word of a command line in a unit (systemd.service(5)). */
function quoted(path: string): string {
  const literal = path.replaceAll('%', '%%').replaceAll('$', '$$$$')
  return /^[\w./%$@+:-]+$/.test(literal) ? literal : `"${literal.replaceAll(/["\\]/g, String.raw`\$&`)}"`
}
