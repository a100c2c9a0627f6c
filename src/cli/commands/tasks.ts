import type { Command } from 'commander'
import { createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import type { Download, TasksClient } from '../../client/types.ts'
import type { TaskEvent } from '../../contracts/event.ts'
import type { Task, TaskStatus } from '../../contracts/task.ts'
import { applyPatch } from '../apply.ts'
import { harmless } from '../colour.ts'
import { connect } from '../connection.ts'
import { printsToTerminal, type Io } from '../io.ts'
import { number } from '../options.ts'
import { formatBytes, formatUsd, renderEvent, renderSummary, table } from '../render.ts'

export function registerTasks(program: Command, io: Io): void {
  program
    .command('tasks')
    .description('List tasks, newest first.')
    .option('--status <status>', 'only tasks in this status')
    .option('--limit <n>', 'how many', number('limit'), 20)
    .option('--json', 'print JSON')
    .action(async (options: { status?: TaskStatus; limit: number; json?: true }) => {
      const client = await connect(io)
      const { items } = await client.tasks.list({
        limit: options.limit,
        ...(options.status && { status: options.status }),
      })
      io.print(
        options.json === true
          ? JSON.stringify(items)
          : table([['TASK', 'STATUS', 'AGENT', 'COST', 'PROMPT'], ...items.map(row)]),
      )
    })

  program
    .command('task <id>')
    .description('Show one task.')
    .option('--json', 'print JSON')
    .action(async (id: string, options: { json?: true }) => {
      const task = await (await connect(io)).tasks.get(id)
      if (options.json === true) return io.print(JSON.stringify(task))
      io.print(`${io.paint.grey('prompt')} ${harmless(task.prompt)}`)
      if (task.continues !== null)
        io.print(`${io.paint.grey(task.fork ? 'fork of' : 'goes on from')} ${task.continues}`)
      if (task.after.length > 0) io.print(`${io.paint.grey('after')} ${task.after.join(', ')}`)
      if (task.attempts > 1) io.print(`${io.paint.grey('attempts')} ${task.attempts}`)
      if (task.queue !== null) io.print(`${io.paint.grey('queue')} ${harmless(task.queue.reason)}`)
      if (task.result !== null) io.print(`${io.paint.grey('result')} ${harmless(task.result)}`)
      io.print(renderSummary(task, io.paint))
    })

  program
    .command('logs <id>')
    .description('Print a task’s events.')
    .option('-f, --follow', 'go on until the task has ended')
    .option('--json', 'print each event as a line of JSON')
    .action(async (id: string, options: { follow?: true; json?: true }) => {
      const { tasks } = await connect(io)
      const events = options.follow === true ? tasks.follow(id, { signal: io.signal }) : stored(tasks, id)
      for await (const event of events) {
        const line = options.json === true ? JSON.stringify(event) : renderEvent(event, io.paint)
        if (line !== undefined) io.print(line)
      }
    })

  program
    .command('files <id>')
    .description('List the files that came back.')
    .action(async (id: string) => {
      for (const file of await (await connect(io)).tasks.files(id))
        io.print(`${formatBytes(file.size).padStart(10)}  ${harmless(file.path)}`)
    })

  program
    .command('get <id> <path>')
    .description('Print one file, or save it.')
    .option('-o, --output <file>', 'save to this file instead of printing')
    .action(async (id: string, path: string, options: { output?: string }) => {
      const download = await (await connect(io)).tasks.file(id, path, { signal: io.signal })
      await save(io, download, options.output)
    })

  program
    .command('diff <id>')
    .description('Print a task’s changes as a git patch.')
    .option('-o, --output <file>', 'save to this file instead of printing')
    .action(async (id: string, options: { output?: string }) => {
      await save(io, await (await connect(io)).tasks.patch(id, { signal: io.signal }), options.output)
    })

  program
    .command('apply <id>')
    .description('Apply a task’s changes to the current folder.')
    .option('--check', 'only say whether they would apply')
    .action(async (id: string, options: { check?: true }) => {
      const { body } = await (await connect(io)).tasks.patch(id, { signal: io.signal })
      io.print(harmless(await applyPatch(io.cwd, body, { check: options.check === true })))
    })

  program
    .command('cancel <id>')
    .description('Stop a task; its files are still collected.')
    .action(async (id: string) => {
      const task = await (await connect(io)).tasks.cancel(id)
      io.print(`${task.id} ${task.status}`)
    })
}

function row(task: Task): string[] {
  const prompt = harmless(task.prompt).replaceAll('\n', ' ')
  return [
    task.id,
    typeof task.queue?.position === 'number' ? `${task.status} ${task.queue.position}` : task.status,
    task.agent,
    formatUsd(task.costUsd),
    prompt.length > 60 ? `${prompt.slice(0, 59)}…` : prompt,
  ]
}

/** The events stored so far. */
async function* stored(tasks: TasksClient, id: string): AsyncIterable<TaskEvent> {
  for (let from: number | undefined = 1; from !== undefined;) {
    const page = await tasks.events(id, { from })
    yield* page.items
    from = page.nextFrom
  }
}

async function save(io: Io, download: Download, output: string | undefined): Promise<void> {
  if (output !== undefined) return pipeline(download.body, createWriteStream(output))
  if (printsToTerminal(io)) {
    // What a machine made could hold anything; only text goes to a screen, and only made harmless.
    const decoder = new TextDecoder()
    for await (const chunk of download.body) io.stdout.write(harmless(decoder.decode(chunk, { stream: true })))
    io.stdout.write(harmless(decoder.decode()))
    return
  }
  await pipeline(download.body, io.stdout, { end: false })
}
