import type { Command } from 'commander'
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
        vm.phases.map((phase) => `${phase.name} ${formatSeconds(phase.ms)}`).join(', '),
      ])
      io.print(table([['VM', 'STATE', 'ENGINE', 'MEMORY', 'VCPUS', 'TASK', 'START'], ...rows]))
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
    .command('destroy <vm>')
    .description('Destroy a machine and everything in it.')
    .action(async (id: string) => {
      await (await connect(io)).vms.destroy(id)
      io.print(`${id} destroyed`)
    })
}
