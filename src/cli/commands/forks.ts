import type { Command } from 'commander'
import type { VivariumClient } from '../../client/types.ts'
import { VivariumError } from '../../contracts/errors.ts'
import type { Task } from '../../contracts/task.ts'
import { harmless } from '../colour.ts'
import { compareTasks, renderComparison } from '../compare.ts'
import { connect } from '../connection.ts'
import { readStdin, type Io } from '../io.ts'
import { number } from '../options.ts'
import { patiently } from '../patience.ts'
import { renderEvent } from '../render.ts'
import { cancelOnInterrupt } from '../watch.ts'

interface ForkOptions {
  count: number
  model?: string
  timeout?: number
  maxTurns?: number
  maxCost?: number
  json?: true
  detach?: true
}

export function registerForks(program: Command, io: Io, exitWith: (code: number) => void): void {
  program
    .command('fork')
    .description('Try a prompt several times from where a finished task left off, and compare the attempts.')
    .argument('<task>', 'the task to branch off from; it stays as it is')
    .argument('<prompt>', 'what each attempt is to do; "-" reads it from stdin')
    .option('--count <n>', 'how many attempts', number('count'), 2)
    .option('--model <name>', 'model for the attempts')
    .option('--timeout <seconds>', 'end each attempt after this time', number('timeout'))
    .option('--max-turns <n>', 'end each attempt after this many turns', number('max-turns'))
    .option('--max-cost <usd>', 'refuse an attempt’s model requests once it has spent this much', number('max-cost'))
    .option('--json', 'print the finished attempts as a JSON array')
    .option('--detach', 'print the attempts’ ids and leave them running')
    .action(async (id: string, prompt: string, options: ForkOptions) => {
      const client = await connect(io)
      const request = await requestOf(io, prompt, options)
      const attempts = await patiently(io, () => client.tasks.fork(id, request))
      const ids = attempts.map((attempt) => attempt.id)
      if (options.detach === true) return io.print(options.json === true ? JSON.stringify(attempts) : ids.join('\n'))
      await followAll(io, client, ids)
      const finished = await compareTasks(client, ids)
      io.print(options.json === true ? JSON.stringify(finished) : renderComparison(finished))
      if (options.json !== true)
        io.note('See what each changed: vivarium diff TASK; take one over: vivarium apply TASK')
      exitWith(exitCodeOf(finished))
    })

  program
    .command('compare')
    .description('Show tasks side by side: status, time, cost, turns and what they changed.')
    .argument('<task...>', 'the tasks; one alone stands for its forks')
    .option('--diff', 'print what each changed as well')
    .option('--json', 'print a JSON array')
    .action(async (ids: string[], options: { diff?: true; json?: true }) => {
      const client = await connect(io)
      const tasks = await compareTasks(client, await comparable(client, ids))
      if (options.json === true) return io.print(JSON.stringify(tasks))
      io.print(renderComparison(tasks))
      if (options.diff === true) for (const task of tasks) await printPatch(io, client, task)
    })
}

async function requestOf(io: Io, prompt: string, options: ForkOptions) {
  return {
    prompt: prompt === '-' ? await readStdin(io) : prompt,
    count: options.count,
    model: options.model,
    timeoutSeconds: options.timeout,
    maxTurns: options.maxTurns,
    maxCostUsd: options.maxCost,
  }
}

/** Notes each attempt's steps until all have ended; the first interrupt cancels them. */
async function followAll(io: Io, client: VivariumClient, ids: readonly string[]): Promise<void> {
  using _ = cancelOnInterrupt(io, client, ids)
  const follow = async (id: string) => {
    for await (const event of client.tasks.follow(id)) {
      if (event.type === 'status' || event.type === 'tool_call') io.note(`${id} ${renderEvent(event, io.paint)}`)
    }
  }
  await Promise.all(ids.map(follow))
}

/** The tasks named, or the forks of the only one. */
async function comparable(client: VivariumClient, ids: readonly string[]): Promise<string[]> {
  const [only, ...others] = ids
  if (only === undefined || others.length > 0) return [...ids]
  const { items } = await client.tasks.list({ continues: only, limit: 200 })
  const forks = items.filter((task) => task.fork).map((task) => task.id)
  if (forks.length > 0) return forks.toReversed()
  throw new VivariumError(
    'invalid_request',
    `${only} has no forks: make some with "vivarium fork ${only} --count 3 PROMPT", or name the tasks to compare.`,
  )
}

async function printPatch(io: Io, client: VivariumClient, task: Task): Promise<void> {
  io.print(`\n${io.paint.bold(task.id)}${task.hasPatch ? '' : ' changed nothing that a patch can show'}`)
  if (!task.hasPatch) return
  const { body } = await client.tasks.patch(task.id, { signal: io.signal })
  const decoder = new TextDecoder()
  for await (const chunk of body) io.stdout.write(harmless(decoder.decode(chunk, { stream: true })))
  io.stdout.write(harmless(decoder.decode()))
}

/** Success where an attempt succeeded: that one can be used. */
function exitCodeOf(tasks: readonly Task[]): number {
  if (tasks.some((task) => task.status === 'succeeded')) return 0
  return tasks.every((task) => task.status === 'cancelled') ? 130 : 1
}
