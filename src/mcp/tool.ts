import {
  type ContentBlock,
  type McpServer,
  type CallToolResult,
  SdkError,
  type ServerContext,
  type StandardSchemaWithJSON,
  type ToolAnnotations,
} from '@modelcontextprotocol/server'
import type { z } from 'zod'
import { VivariumError } from '../contracts/errors.ts'
import type { Cancellation } from './cancellations.ts'
import { Progress } from './progress.ts'
import type { ToolEnvironment } from './types.ts'

/** One call under way, as the tools see it. */
export interface Call {
  /** Aborts when nobody waits for the answer any more. It may also abort later, when that means nothing. */
  signal: AbortSignal
  /** Once `signal` has aborted: whether the client took the call back, or just went away. */
  takenBack(): boolean
  progress: Progress
}

/** What a tool found: `structured` holds everything, because clients show the model nothing else of it but images. */
interface Answer<Output> {
  structured: Output
  images?: ContentBlock[]
}

export interface ToolDefinition<Input extends z.ZodObject, Output extends z.ZodObject> {
  name: string
  title: string
  description: string
  input: Input
  output: Output
  annotations: ToolAnnotations
  run(args: z.output<Input>, call: Call): Promise<Answer<z.input<Output>>>
}

/** Adds a tool to a server. What it throws becomes an answer that says what to do about it. */
export function addTool<Input extends z.ZodObject, Output extends z.ZodObject>(
  server: McpServer,
  environment: Pick<ToolEnvironment, 'progressMs' | 'listenForCancel'>,
  tool: ToolDefinition<Input, Output>,
): void {
  const { title, description, input, annotations } = tool
  // Named by their interface: the SDK's types can't follow schemas that are type parameters here.
  const inputSchema: StandardSchemaWithJSON = input
  const outputSchema: StandardSchemaWithJSON = tool.output
  const config = { title, description, inputSchema, outputSchema, annotations }
  server.registerTool(tool.name, config, async (args: unknown, context: ServerContext): Promise<CallToolResult> => {
    await using progress = new Progress(context, environment.progressMs)
    using cancellation = environment.listenForCancel(context.mcpReq.id)
    try {
      const { structured, images = [] } = await tool.run(input.parse(args), callOf(context, progress, cancellation))
      const text = JSON.stringify(structured, null, 2)
      return { content: [...images, { type: 'text', text }], structuredContent: structured }
    } catch (error) {
      return { isError: true, content: [{ type: 'text', text: explain(error) }] }
    }
  })
}

function callOf(context: ServerContext, progress: Progress, cancellation: Cancellation | undefined): Call {
  const { signal } = context.mcpReq
  const cancelled = cancellation?.signal
  return {
    progress,
    signal: cancelled === undefined ? signal : AbortSignal.any([signal, cancelled]),
    // The SDK aborts with an error of its own when the connection closes, and with the client's reason when it cancels.
    takenBack: () => cancelled?.aborted === true || (signal.aborted && !(signal.reason instanceof SdkError)),
  }
}

/** What to do next, by code, where the message alone does not say it. */
const ADVICE: Partial<Record<VivariumError['code'], string>> = {
  not_found: 'Check the id; list_vms shows the machines there are, list_task_files the files of a task.',
  conflict: 'Look at the present state with get_task_status first.',
  queue_full: 'Wait for running tasks to end (wait_for_task), then try again.',
  machine_destroyed: 'Its user destroyed the machine; start over with a new task if that was a mistake.',
  prerequisite_failed: 'Look at the task that it was to follow with get_task_status, mend that, and start both again.',
  guest_lost: 'The machine is gone and its unsaved state with it; start over with a new task.',
  no_credential: 'Ask the user to store a credential for the model: vivarium secret set anthropic-api-key.',
}

/** Fields of requests that are arguments of another name here. */
const ARGUMENTS: Record<string, string> = {
  workspace: 'workspace_path',
  'repo.url': 'repo_url',
  'repo.ref': 'repo_ref',
}

function argumentOf(field: string): string {
  return ARGUMENTS[field] ?? field.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function explain(error: unknown): string {
  if (!(error instanceof VivariumError)) return error instanceof Error ? error.message : String(error)
  const about = error.field === undefined ? error.code : `${error.code}, argument ${argumentOf(error.field)}`
  return [`${error.message} (${about})`, ADVICE[error.code]].filter((part) => part !== undefined).join(' ')
}
