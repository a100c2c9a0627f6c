import type { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { VivariumError } from '../../contracts/errors.ts'
import { TaskId } from '../../contracts/ids.ts'
import { NetworkPolicy } from '../../contracts/network.ts'
import { InputFile, Repo, TaskRequest, type TaskRequestInput } from '../../contracts/task.ts'
import { addTool, type Call } from '../tool.ts'
import { storedTail, TaskOutput, taskOutput } from '../task-output.ts'
import type { ToolEnvironment } from '../types.ts'
import { watchTask } from '../watch.ts'

/** Clients differ in how long they let a call run; this stays below the shortest that is common. */
const DEFAULT_WAIT_SECONDS = 45
const MAX_WAIT_SECONDS = 3600

const { shape } = TaskRequest

const taskArguments = z.object({
  prompt: shape.prompt.describe('What the agent is to do; for the agent "shell", the script to run'),
  agent: shape.agent.describe('claude-code: Claude Code with full permissions; shell: a script'),
  model: shape.model.describe('The model; left out, the default of Claude Code'),
  memory_mib: shape.memoryMib.describe('Memory of the VM in MiB'),
  vcpus: shape.vcpus.describe('Virtual CPUs'),
  timeout_seconds: shape.timeoutSeconds.describe('The agent is stopped after this long'),
  max_turns: shape.maxTurns.describe('The agent is stopped after this many turns'),
  max_cost_usd: shape.maxCostUsd.describe('The agent is stopped once this much is spent'),
  files: z
    .array(z.object({ path: InputFile.shape.path, content_base64: InputFile.shape.contentBase64 }))
    .max(1000)
    .optional()
    .describe('Files put into the workspace before the agent starts; paths are relative to it'),
  repo_url: Repo.shape.url
    .optional()
    .describe('An https repository, cloned into the workspace before the agent starts'),
  repo_ref: Repo.shape.ref.describe('Its branch, tag or commit'),
  allow_hosts: NetworkPolicy.shape.allow
    .optional()
    .describe('Hosts the VM may reach besides the usual, e.g. "*.example.com"; "none" among them drops the usual'),
  priority: shape.priority,
  continues: shape.continues.describe(
    'The task_id of a finished task to go on from: the agent finds its workspace as that task left it and remembers its conversation. ' +
      'Use it for follow-ups instead of repeating context',
  ),
  fork: shape.fork.describe(
    'With continues: work on a copy, so that the same task can be gone on from again. Start several with fork to try different ways at once',
  ),
  after: shape.after.describe(
    'task_ids that must have succeeded before this one starts; where one of them does not, this one fails without being started',
  ),
  requeue: shape.requeue.describe(
    'Run again from the start where the VM or the server is lost, even though the first attempt may have had effects outside',
  ),
  template: shape.template.describe(
    'Start from this prepared machine of the user’s (e.g. with dependencies installed) instead of a plain one',
  ),
  keep_vm_seconds: shape.keepVmSeconds.describe(
    'Keep the VM for so long after the task’s end, for exec_in_vm, read_vm_file and faster follow-ups; left out, it is destroyed',
  ),
})

const withWorkspace = taskArguments.extend({
  workspace_path: z
    .string()
    .optional()
    .describe('A folder of this machine, copied into the workspace before the agent starts (.gitignore is honoured)'),
})

const taskReference = z.object({ task_id: TaskId })

const Started = z.object({ task_id: z.string(), status: z.string(), next: z.string() })

const ABOUT =
  'Runs a prompt with Claude Code (or a shell script) in a fresh, throwaway microVM with full permissions. ' +
  'It sees nothing of this machine but the files it is given, and files it leaves in /workspace are brought back.'

/** The tools about tasks. */
export function addTaskTools(server: McpServer, environment: ToolEnvironment): void {
  const { client, grace, ending, packWorkspace } = environment
  const input = packWorkspace === undefined ? taskArguments : withWorkspace

  async function submit(args: z.output<typeof withWorkspace>) {
    const request = toRequest(args)
    if (args.workspace_path === undefined || packWorkspace === undefined) return client.tasks.submit(request)
    const upload = await client.tasks.upload(await packWorkspace(args.workspace_path))
    return client.tasks.submit({ ...request, uploadId: upload.id })
  }

  async function cancel(taskId: string): Promise<void> {
    await client.tasks.cancel(taskId).catch(() => undefined) // removed, or the server is gone: nothing is left to stop
  }

  /** Waits for a task that is its caller's alone: one who takes the call back stops the task, one who vanishes may come back. */
  async function watchOwned(taskId: string, call: Call, timeoutMs?: number) {
    try {
      return await watchTask(client, taskId, { ...call, ending, ...(timeoutMs === undefined ? {} : { timeoutMs }) })
    } catch (error) {
      if (call.takenBack()) await cancel(taskId)
      else if (call.signal.aborted) grace.begin(taskId, () => cancel(taskId))
      throw error
    }
  }

  addTool(server, environment, {
    name: 'run_task',
    title: 'Run a task in a microVM',
    description: `${ABOUT} Waits until it is done and tells of its progress. If the connection breaks, go on with wait_for_task within two minutes; also where "done" is false, because the server restarts.`,
    input,
    output: TaskOutput,
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
    async run(args, call) {
      const task = await submit(args)
      call.progress.say(`Task ${task.id} is ${task.queue === null ? task.status : task.queue.reason}`)
      return { structured: await watchOwned(task.id, call) }
    },
  })

  addTool(server, environment, {
    name: 'start_task',
    title: 'Start a task in a microVM',
    description: `${ABOUT} Returns at once with the task's id; wait for it with wait_for_task.`,
    input,
    output: Started,
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
    async run(args) {
      const task = await submit(args)
      return { structured: { task_id: task.id, status: task.status, next: 'Call wait_for_task with this task_id.' } }
    },
  })

  addTool(server, environment, {
    name: 'wait_for_task',
    title: 'Wait for a task',
    description:
      'Waits until a task is done, at most wait_seconds, and returns how it stands. Call it again while "done" is false. ' +
      'Also takes over a run_task whose connection broke.',
    input: taskReference.extend({
      wait_seconds: z.number().min(0).max(MAX_WAIT_SECONDS).default(DEFAULT_WAIT_SECONDS),
    }),
    output: TaskOutput,
    annotations: { readOnlyHint: true, idempotentHint: true, openWorldHint: false },
    async run({ task_id: taskId, wait_seconds: seconds }, call) {
      const task = await client.tasks.get(taskId, { signal: call.signal })
      call.progress.say(`Task ${taskId} is ${task.queue === null ? task.status : task.queue.reason}`)
      const timeoutMs = seconds * 1000
      if (grace.takeOver(taskId)) return { structured: await watchOwned(taskId, call, timeoutMs) }
      return { structured: await watchTask(client, taskId, { ...call, ending, timeoutMs }) }
    },
  })

  addTool(server, environment, {
    name: 'get_task_status',
    title: 'Look at a task',
    description: 'How a task stands: status, exit code, cost, files, and the last 4,000 characters of its output.',
    input: taskReference,
    output: TaskOutput,
    annotations: { readOnlyHint: true, idempotentHint: true, openWorldHint: false },
    async run({ task_id: taskId }, { signal }) {
      const task = await client.tasks.get(taskId, { signal })
      return { structured: await taskOutput(client, task, await storedTail(client, taskId, signal), signal) }
    },
  })

  addTool(server, environment, {
    name: 'cancel_task',
    title: 'Stop a task',
    description: 'Stops a task. Files it has made by then are still brought back. A finished task is left as it is.',
    input: taskReference,
    output: TaskOutput,
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
    async run({ task_id: taskId }, { signal }) {
      const task = await client.tasks.cancel(taskId)
      grace.takeOver(taskId)
      return { structured: await taskOutput(client, task, await storedTail(client, taskId, signal), signal) }
    },
  })
}

function toRequest(args: z.output<typeof taskArguments>): TaskRequestInput {
  if (args.repo_ref !== undefined && args.repo_url === undefined) {
    throw new VivariumError('invalid_request', 'repo_ref needs a repo_url.', { field: 'repoRef' })
  }
  if (args.fork === true && args.continues === undefined) {
    throw new VivariumError('invalid_request', 'fork needs continues, the task to branch off from.', { field: 'fork' })
  }
  return {
    prompt: args.prompt,
    agent: args.agent,
    memoryMib: args.memory_mib,
    vcpus: args.vcpus,
    timeoutSeconds: args.timeout_seconds,
    priority: args.priority,
    model: args.model,
    maxTurns: args.max_turns,
    maxCostUsd: args.max_cost_usd,
    files: args.files?.map((file) => ({ path: file.path, contentBase64: file.content_base64 })),
    repo: args.repo_url === undefined ? undefined : { url: args.repo_url, ref: args.repo_ref },
    network: args.allow_hosts === undefined ? undefined : { allow: args.allow_hosts },
    continues: args.continues,
    fork: args.fork,
    after: args.after,
    requeue: args.requeue,
    template: args.template,
    keepVmSeconds: args.keep_vm_seconds,
  }
}
