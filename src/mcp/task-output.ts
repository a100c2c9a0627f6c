import { z } from 'zod'
import type { VivariumClient } from '../client/types.ts'
import type { TaskEvent } from '../contracts/event.ts'
import { isKeptOf } from '../contracts/machine.ts'
import { isFinal, QueuePlace, type Task, TaskStatus } from '../contracts/task.ts'

/** As much of the output's end as a result holds. */
const OUTPUT_CHARS = 4000

const MAX_RESULT_CHARS = 20_000

/** A task can bring back tens of thousands of files; a model needs to see that, not to read it. */
const MAX_FILES = 200

export const FileOutput = z.object({ path: z.string(), size: z.int(), mime_type: z.string() })

/** How a task stands, as every tool tells it. */
export const TaskOutput = z.object({
  task_id: z.string(),
  status: TaskStatus,
  /** Whether `status` is final. */
  done: z.boolean(),
  exit_code: z.int().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  result: z.string().nullable().describe("The agent's final words"),
  output: z.string().describe('The last 4,000 characters of what it printed'),
  files: z.array(FileOutput).describe('What it brought back; read one with get_task_file'),
  file_count: z.int().describe('Number of files; more than are listed where it is large'),
  cost_usd: z.number(),
  turns: z.int(),
  vm_id: z
    .string()
    .nullable()
    .describe('The VM it runs in; once it is done, only a VM that was kept, for exec_in_vm and read_vm_file'),
  attempts: z.int().describe('How often it was started; more than once where a VM failed through no doing of its own'),
  queue: QueuePlace.nullable().describe('Why it is not started yet, and its position (1 is next); null once it is'),
  vm_kept_until: z.string().nullable().describe('When a kept VM will be destroyed'),
})
export type TaskOutput = z.input<typeof TaskOutput>

export function fileOutputs(task: Pick<Task, 'files'>): z.input<typeof FileOutput>[] {
  return task.files.slice(0, MAX_FILES).map(({ path, size, mimeType }) => ({ path, size, mime_type: mimeType }))
}

/** How a task stands now; `output` is the end of what it printed. */
export async function taskOutput(
  client: VivariumClient,
  task: Task,
  output: string,
  signal: AbortSignal,
): Promise<TaskOutput> {
  const vm = await machineOf(client, task, signal)
  return {
    task_id: task.id,
    status: task.status,
    done: isFinal(task.status),
    exit_code: task.exitCode,
    error: task.error,
    result: task.result === null ? null : shorten(task.result),
    output,
    files: fileOutputs(task),
    file_count: task.files.length,
    cost_usd: task.costUsd,
    turns: task.turns,
    vm_id: vm.id,
    attempts: task.attempts,
    queue: task.queue,
    vm_kept_until: vm.keepUntil,
  }
}

/** A finished task's machine is mostly gone; naming it then would only invite calls that fail. */
async function machineOf(
  client: VivariumClient,
  task: Task,
  signal: AbortSignal,
): Promise<{ id: string | null; keepUntil: string | null }> {
  if (task.vmId === null || !isFinal(task.status)) return { id: task.vmId, keepUntil: null }
  const kept = (await client.vms.list({ signal })).find((machine) => isKeptOf(machine, task.id))
  return { id: kept?.id ?? null, keepUntil: kept?.keepUntil ?? null }
}

/** The closing words of an agent are mostly short; a whole book of them would be cut by the client instead. */
function shorten(text: string): string {
  if (text.length <= MAX_RESULT_CHARS) return text
  return `${text.slice(0, MAX_RESULT_CHARS).toWellFormed()}\n… (${text.length - MAX_RESULT_CHARS} more characters)`
}

/** The end of what an agent printed, gathered from its events. */
export class OutputTail {
  #text = ''
  #lastBlock = ''

  see(event: TaskEvent): void {
    const text = this.#textOf(event)
    if (text === undefined || text === '') return
    // Raw output and errors are pieces as they were printed; a block of the model's text stands for itself.
    const piece = event.type === 'raw' || event.type === 'stderr' ? text : `${text.trimEnd()}\n`
    this.#text = (this.#text + piece).slice(-OUTPUT_CHARS)
  }

  get text(): string {
    return this.#text.toWellFormed()
  }

  #textOf(event: TaskEvent): string | undefined {
    if (event.type === 'raw' || event.type === 'stderr') return event.text
    if (event.type === 'text') return (this.#lastBlock = event.text)
    // The final result repeats the last block of text.
    return event.type === 'result' && event.text !== this.#lastBlock ? event.text : undefined
  }
}

/** The same for what is stored of a task by now. */
export async function storedTail(client: VivariumClient, taskId: string, signal: AbortSignal): Promise<string> {
  const tail = new OutputTail()
  let from: number | undefined = 1
  while (from !== undefined) {
    const page = await client.tasks.events(taskId, { from }, { signal })
    for (const event of page.items) tail.see(event)
    from = page.nextFrom
  }
  return tail.text
}

/** What an event tells somebody who waits, or undefined for nothing new. */
export function newsOf(event: TaskEvent): string | undefined {
  switch (event.type) {
    case 'status':
      return [event.status, event.message ?? event.phase].filter((part) => part !== undefined).join(': ')
    case 'tool_call':
      return `${event.name} ${JSON.stringify(event.input) ?? ''}`
    case 'text':
      return event.text
    case 'raw':
    case 'stderr':
      return event.text.trim() === '' ? undefined : event.text.trimEnd().split('\n').at(-1)
    default:
      return undefined
  }
}
