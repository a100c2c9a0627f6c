import { Command, CommanderError } from 'commander'
import { toVivariumError } from '../contracts/errors.ts'
import { VERSION } from '../version.ts'
import { registerBackup } from './commands/backup.ts'
import { registerConfig } from './commands/config.ts'
import { registerConnect } from './commands/connect.ts'
import { registerForks } from './commands/forks.ts'
import { registerHost } from './commands/host.ts'
import { registerMachines } from './commands/machines.ts'
import { registerMcp } from './commands/mcp.ts'
import { registerPeople } from './commands/people.ts'
import { registerRun } from './commands/run.ts'
import { registerSecrets } from './commands/secrets.ts'
import { registerServe } from './commands/serve.ts'
import { registerService } from './commands/service.ts'
import { registerShell } from './commands/shell.ts'
import { registerTasks } from './commands/tasks.ts'
import { registerTemplates } from './commands/templates.ts'
import type { Io } from './io.ts'

/** Exit codes of our own: what the user can mend, and what is ours to mend. A command's or agent's own code passes through. */
const EXIT_USER = 2
const EXIT_SYSTEM = 1

/** Runs one command line (without program and script) to its end; resolves with the exit code and never rejects. */
export async function runCommand(argv: string[], io: Io): Promise<number> {
  let exitCode = 0
  const exitWith = (code: number) => {
    exitCode = code
  }
  const program = new Command('vivarium')
    .description('Runs Claude Code in throwaway microVMs on hardware you own.')
    .version(VERSION, '-V, --version')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ writeOut: (text) => io.stdout.write(text), writeErr: (text) => io.stderr.write(text) })
  registerServe(program, io, exitWith)
  registerRun(program, io, exitWith)
  registerTasks(program, io)
  registerForks(program, io, exitWith)
  registerMachines(program, io, exitWith)
  registerShell(program, io, exitWith)
  registerTemplates(program, io)
  registerMcp(program, io)
  registerConnect(program, io)
  registerConfig(program, io)
  registerPeople(program, io)
  registerSecrets(program, io)
  registerBackup(program, io)
  registerHost(program, io, exitWith)
  registerService(program, io)
  try {
    await program.parseAsync(argv, { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USER
    if (io.signal.aborted) return 130
    const known = toVivariumError(error)
    io.note(`${io.paint.red('error')} ${known.message}`)
    if (known.code === 'internal' && error instanceof Error) io.note(io.paint.grey(error.stack ?? ''))
    return known.blame === 'user' ? EXIT_USER : EXIT_SYSTEM
  }
}
