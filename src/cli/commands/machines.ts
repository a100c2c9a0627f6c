import type { Command } from 'commander'
import type { VivariumClient } from '../../client/types.ts'
import { connect } from '../connection.ts'
import { readStdin, type Io } from '../io.ts'
import { number } from '../options.ts'
import { formatSeconds, table } from '../render.ts'

export function registerMachines(program: Command, io: Io, exitWith: (code: number) => void): void {
  program
    .command('vms')
    .description('List machines.')
    .option('--json', 'print JSON')
    .action(async (options: { json?: true }) => {
      const machines = await (await connect(io)).vms.list()
      if (options.json === true) return io.print(JSON.stringify(machines))
      const rows = machines.map((vm) => [
        vm.id,
        vm.state,
        vm.engine,
        `${vm.memoryMib} MiB`,
        String(vm.vcpus),
        vm.taskId ?? '',
        vm.startedFrom,
        vm.template ?? '',
        vm.keepUntil ?? '',
        vm.phases.map((phase) => `${phase.name} ${formatSeconds(phase.ms)}`).join(', '),
      ])
      io.print(
        table([
          ['VM', 'STATE', 'ENGINE', 'MEMORY', 'VCPUS', 'TASK', 'FROM', 'TEMPLATE', 'KEPT UNTIL', 'START'],
          ...rows,
        ]),
      )
    })

  program
    .command('exec')
    .description('Run a command in a machine, as the user "agent", in /workspace.')
    .argument('<vm>', 'the machine')
    .argument('<command...>', 'the command and its arguments, after "--"')
    .option('--timeout <seconds>', 'kill it after this time', number('timeout'), 60)
    .option('-i, --stdin', 'send it this command’s standard input')
    .passThroughOptions()
    .action(async (id: string, words: string[], options: { timeout: number; stdin?: true }) => {
      const argv = words[0] === '--' ? words.slice(1) : words
      const client = await connect(io)
      await tellSuspended(io, client, id)
      const stdin = options.stdin === true ? await readStdin(io) : ''
      const request = { argv, timeoutSeconds: options.timeout, stdin }
      for await (const piece of client.vms.execStream(id, request, { signal: io.signal })) {
        if (piece.kind === 'exit') {
          if (piece.timedOut) io.note(`The command was ended after ${options.timeout} s.`)
          exitWith(piece.exitCode)
        } else {
          io[piece.kind].write(Buffer.from(piece.dataBase64, 'base64'))
        }
      }
    })

  program
    .command('suspend <vm>')
    .description('Save a machine to disk and free its memory; it goes on where it was once it is resumed or used.')
    .action(async (id: string) => {
      const { state } = await (await connect(io)).vms.suspend(id, { signal: io.signal })
      io.print(`${id} ${state}`)
    })

  program
    .command('resume <vm>')
    .description('Let a suspended machine go on.')
    .action(async (id: string) => {
      const { state } = await (await connect(io)).vms.resume(id, { signal: io.signal })
      io.print(`${id} ${state}`)
    })

  program
    .command('destroy <vm>')
    .description('Destroy a machine and everything in it.')
    .action(async (id: string) => {
      await (await connect(io)).vms.destroy(id)
      io.print(`${id} destroyed`)
    })
}

/** The first use of a suspended machine takes longer: says why. */
export async function tellSuspended(io: Io, client: VivariumClient, id: string): Promise<void> {
  const { state } = await client.vms.get(id, { signal: io.signal })
  if (state === 'suspended' || state === 'suspending') io.note(`${id} is suspended: resuming it …`)
}
