import { type Command, Option } from 'commander'
import type { VivariumClient } from '../../client/types.ts'
import { isKeptOf } from '../../contracts/machine.ts'
import type { Task, TaskRequestInput } from '../../contracts/task.ts'
import { connect } from '../connection.ts'
import { readStdin, type Io } from '../io.ts'
import { collect, keepVmSeconds, number, parseRepo, readInputFile } from '../options.ts'
import { patiently } from '../patience.ts'
import { watchTask } from '../watch.ts'
import { packWorkspace } from '../workspace.ts'

interface RunOptions {
  json?: true
  detach?: true
  agent?: TaskRequestInput['agent']
  model?: string
  memory?: number
  vcpus?: number
  timeout?: number
  maxTurns?: number
  maxCost?: number
  file: string[]
  workspace?: string
  repo?: string
  allow: string[]
  priority?: TaskRequestInput['priority']
  template?: string
  continue?: string
  after: string[]
  requeue?: true
  keepVm?: number
}

export function registerRun(program: Command, io: Io, exitWith: (code: number) => void): void {
  program
    .command('run')
    .description('Run one task, print its stream, and exit with the agent’s exit code.')
    .argument('<prompt>', 'what the agent is to do; "-" reads it from stdin, after "--" it may begin with a dash')
    .option('--json', 'print the finished task as one JSON object on stdout; the stream goes to stderr')
    .option('--detach', 'print the task’s id and leave it running')
    .option('--agent <name>', 'claude-code or shell')
    .option('--model <name>', 'model for the agent')
    .option('--memory <mib>', 'guest memory in MiB', number('memory'))
    .option('--vcpus <n>', 'virtual CPUs', number('vcpus'))
    .option('--timeout <seconds>', 'end the agent after this time', number('timeout'))
    .option('--max-turns <n>', 'end the agent after this many turns', number('max-turns'))
    .option('--max-cost <usd>', 'refuse model requests once this much is spent', number('max-cost'))
    .option('--file <path>', 'copy a file into the workspace (repeatable)', collect, [])
    .option('--workspace <dir>', 'send a folder as the workspace; its .gitignore is honoured')
    .option('--repo <url[#ref]>', 'clone a repository into the workspace')
    .option('--allow <host>', 'let the machine reach this host, or what a preset stands for (repeatable)', collect, [])
    .option('--priority <level>', 'low, normal or high')
    .option('--template <name>', 'start from this template instead of the plain one (see "vivarium template list")')
    .option('--continue <task>', 'go on from a finished task: same workspace, same conversation')
    .option('--after <task>', 'start only when this task has succeeded (repeatable)', collect, [])
    .option('--requeue', 'run again from the start where the machine or the server is lost, whatever was done by then')
    .addOption(
      new Option(
        '--keep-vm [seconds]',
        'keep the machine for so long afterwards, for exec and follow-ups (default: 3600)',
      )
        .preset('3600')
        .argParser(keepVmSeconds),
    )
    .action(async (prompt: string, options: RunOptions) => {
      const client = await connect(io, { start: true })
      // Not given up by an interrupt: a request that is cut off may have queued the task, which nobody would then cancel.
      const request = await requestOf(io, client, prompt, options)
      const task = await patiently(io, () => client.tasks.submit(request))
      if (options.detach === true) {
        io.print(options.json === true ? JSON.stringify(task) : task.id)
        return
      }
      const finished = await watchTask(io, client, task, options.json === true ? io.note : io.print)
      if (options.json === true) io.print(JSON.stringify(finished))
      if (options.keepVm !== undefined || options.continue !== undefined) await tellKept(io, client, finished)
      exitWith(exitCodeOf(finished))
    })
}

/** What a machine that was kept is good for. A task that failed before it had one leaves none. */
async function tellKept(io: Io, client: VivariumClient, task: Task): Promise<void> {
  const machine = (await client.vms.list()).find((vm) => isKeptOf(vm, task.id))
  if (machine === undefined) return
  io.note(`${machine.id} is kept until ${machine.keepUntil}:`)
  io.note(`  vivarium exec ${machine.id} -- COMMAND          look into it`)
  io.note(`  vivarium run --continue ${task.id} "PROMPT"   go on`)
  io.note(`  vivarium fork ${task.id} --count 3 "PROMPT"   try several ways`)
  io.note(`  vivarium destroy ${machine.id}                  let it go`)
}

function leftOut(io: Io): (path: string) => void {
  return (path) => io.note(`Left out: ${path}, a repository of its own.`)
}

async function requestOf(
  io: Io,
  client: VivariumClient,
  prompt: string,
  options: RunOptions,
): Promise<TaskRequestInput> {
  const files = await Promise.all(options.file.map(readInputFile))
  const upload =
    options.workspace === undefined
      ? undefined
      : await client.tasks.upload(await packWorkspace(options.workspace, leftOut(io)), { signal: io.signal })
  const wanted = {
    prompt: prompt === '-' ? await readStdin(io) : prompt,
    agent: options.agent,
    model: options.model,
    memoryMib: options.memory,
    vcpus: options.vcpus,
    timeoutSeconds: options.timeout,
    maxTurns: options.maxTurns,
    maxCostUsd: options.maxCost,
    priority: options.priority,
    files: files.length > 0 ? files : undefined,
    uploadId: upload?.id,
    repo: options.repo === undefined ? undefined : parseRepo(options.repo),
    network: options.allow.length > 0 ? { allow: options.allow } : undefined,
    template: options.template,
    continues: options.continue,
    after: options.after.length > 0 ? options.after : undefined,
    requeue: options.requeue,
    keepVmSeconds: options.keepVm,
  }
  return Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined)) as TaskRequestInput
}

/** The agent's own exit code where it says something; a run that failed for another reason must not look like a success. */
function exitCodeOf(task: Task): number {
  if (task.status === 'succeeded') return task.exitCode ?? 0
  if (task.status === 'cancelled') return 130
  return task.exitCode === null || task.exitCode === 0 ? 1 : task.exitCode
}
