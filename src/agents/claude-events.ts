import { z } from 'zod'
import type { NewEvent } from '../contracts/event.ts'
import {
  AnyLine,
  AssistantBlock,
  AssistantLine,
  ResultLine,
  StreamEventLine,
  SystemLine,
  ToolResultBlock,
  ToolResultPart,
  UserLine,
} from './claude-lines.ts'

export const ResultFact = z.object({
  kind: z.literal('result'),
  isError: z.boolean(),
  subtype: z.string(),
  text: z.string(),
  turns: z.number(),
  apiError: z.boolean(),
})
export type ResultFact = z.infer<typeof ResultFact>

/** What a line says about the run as a whole, beside the events it becomes. Plain data: it may come from a worker. */
export type Fact = { kind: 'working' } | { kind: 'background'; taskId: string; open: boolean } | ResultFact

export interface LineReading {
  events: NewEvent[]
  facts: Fact[]
}

/** The events of one parsed line, or undefined when it is of no kind we know. */
export function readClaudeLine(value: unknown): LineReading | undefined {
  const line = AnyLine.safeParse(value).data
  switch (line?.type) {
    case 'assistant':
      return readAssistant(line)
    case 'user':
      return readUser(line)
    case 'stream_event':
      return { events: [readStreamEvent(line)], facts: [] }
    case 'system':
      return readSystem(line)
    case 'result':
      return readResult(line)
    case 'control_response':
      // The answer to our greeting: what the CLI can do, in 30 KB of which nothing concerns the task.
      return { events: [{ type: 'log', level: 'debug', message: line.type }], facts: [] }
    case 'tool_progress':
    case 'rate_limit_event':
    case 'command_lifecycle':
      return { events: [detail(line.type, line)], facts: [] }
    default:
      return undefined
  }
}

function detail(message: string, data: unknown): NewEvent {
  return { type: 'log', level: 'debug', message, data }
}

function parentOf(line: { parent_tool_use_id?: string | null | undefined }): { parentToolUseId?: string } {
  return typeof line.parent_tool_use_id === 'string' ? { parentToolUseId: line.parent_tool_use_id } : {}
}

function readAssistant(value: unknown): LineReading | undefined {
  const line = AssistantLine.safeParse(value).data
  if (line === undefined) return undefined
  const parent = parentOf(line)
  const events = line.message.content.map((block): NewEvent => {
    const known = AssistantBlock.safeParse(block).data
    if (known === undefined) return detail('assistant block', block)
    switch (known.type) {
      case 'thinking':
        return { type: 'thinking', text: known.thinking, ...parent }
      case 'text':
        return { type: 'text', text: known.text, ...parent }
      case 'tool_use':
        return { type: 'tool_call', toolUseId: known.id, name: known.name, input: known.input ?? null, ...parent }
    }
  })
  return { events: events.length > 0 ? events : [detail('assistant', line)], facts: [{ kind: 'working' }] }
}

function readUser(value: unknown): LineReading {
  const line = UserLine.safeParse(value).data
  // A plain string is a prompt that is played back, e.g. a subagent's.
  if (line === undefined || line.message.content.length === 0) return { events: [detail('user', value)], facts: [] }
  const parent = parentOf(line)
  const events = line.message.content.map((block): NewEvent => {
    const known = ToolResultBlock.safeParse(block).data
    if (known === undefined) return detail('user block', block)
    const { text, images } = readContent(known.content ?? '')
    return {
      type: 'tool_result',
      toolUseId: known.tool_use_id,
      text,
      isError: known.is_error === true,
      ...(images.length > 0 ? { images } : {}),
      ...parent,
    }
  })
  return { events, facts: [{ kind: 'working' }] }
}

function readContent(content: string | unknown[]): { text: string; images: { mimeType: string; data: string }[] } {
  if (typeof content === 'string') return { text: content, images: [] }
  const texts: string[] = []
  const images: { mimeType: string; data: string }[] = []
  for (const part of content) {
    const known = ToolResultPart.safeParse(part).data
    if (known === undefined) texts.push(JSON.stringify(part))
    else if (known.type === 'text') texts.push(known.text)
    else images.push({ mimeType: known.source.media_type, data: known.source.data })
  }
  return { text: texts.join('\n'), images }
}

function readStreamEvent(value: unknown): NewEvent {
  const line = StreamEventLine.safeParse(value).data
  if (line === undefined) return detail('stream_event', value)
  const parent = parentOf(line)
  const { delta } = line.event
  switch (delta.type) {
    case 'thinking_delta':
      return { type: 'delta', kind: 'thinking', text: delta.thinking, ...parent }
    case 'text_delta':
      return { type: 'delta', kind: 'text', text: delta.text, ...parent }
    case 'input_json_delta':
      return { type: 'delta', kind: 'tool_input', text: delta.partial_json, ...parent }
  }
}

function readSystem(value: unknown): LineReading {
  const line = SystemLine.safeParse(value).data
  if (line === undefined) return { events: [detail('system', value)], facts: [] }
  switch (line.subtype) {
    case 'init': {
      const message = `Claude Code ${line.claude_code_version ?? '(unknown version)'}, model ${line.model ?? 'unknown'}`
      return { events: [{ type: 'log', level: 'info', message, data: value }], facts: [] }
    }
    case 'api_retry': {
      const attempt = line.attempt === undefined ? '' : `, attempt ${line.attempt} of ${line.max_retries ?? '?'}`
      const message = `The model's API failed (${line.error ?? 'unknown error'}); trying again${attempt}`
      return { events: [{ type: 'log', level: 'warn', message, data: value }], facts: [] }
    }
    case 'task_started':
    case 'task_notification': {
      const open = line.subtype === 'task_started'
      const facts: Fact[] = line.task_id === undefined ? [] : [{ kind: 'background', taskId: line.task_id, open }]
      return { events: [detail(`system/${line.subtype}`, value)], facts }
    }
    default:
      return { events: [detail(`system/${line.subtype}`, value)], facts: [] }
  }
}

function readResult(value: unknown): LineReading | undefined {
  const line = ResultLine.safeParse(value).data
  if (line === undefined) return undefined
  const text = line.result ?? line.errors?.join('\n') ?? ''
  const { result: _text, ...rest } = line
  const result: NewEvent = {
    type: 'result',
    isError: line.is_error,
    text,
    subtype: line.subtype,
    ...(line.num_turns === undefined ? {} : { turns: line.num_turns }),
    ...(line.duration_ms === undefined ? {} : { durationMs: line.duration_ms }),
    ...(line.total_cost_usd === undefined ? {} : { reportedCostUsd: line.total_cost_usd }),
  }
  const fact: Fact = {
    kind: 'result',
    isError: line.is_error,
    subtype: line.subtype,
    text,
    turns: line.num_turns ?? 0,
    apiError:
      (line.api_error_status ?? null) !== null || /^(API Error|Failed to authenticate|Credit balance)/.test(text),
  }
  return { events: [detail('result details', rest), result], facts: [fact] }
}
