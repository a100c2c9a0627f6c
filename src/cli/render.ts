import type { TaskEvent } from '../contracts/event.ts'
import type { Task } from '../contracts/task.ts'
import { harmless, type Palette } from './colour.ts'

const MAX_RESULT_CHARS = 2000
const MAX_INPUT_CHARS = 200

/** One event as lines for people, or undefined for what is not worth a line. */
export function renderEvent(event: TaskEvent, paint: Palette): string | undefined {
  switch (event.type) {
    case 'thinking':
      return paint.purple(harmless(event.text))
    case 'text':
      return paint.blue(harmless(event.text))
    case 'tool_call':
      return paint.orange(`▶ ${harmless(event.name)} ${harmless(describeInput(event.input))}`)
    case 'tool_result':
      return (event.isError ? paint.red : paint.grey)(indent(cut(harmless(event.text))))
    case 'result':
      return (event.isError ? paint.red : paint.green)(`■ ${harmless(event.text)}`)
    case 'status':
      return paint.grey(`· ${harmless(event.message ?? event.phase ?? event.status)}`)
    case 'stderr':
      return paint.red(harmless(event.text.trimEnd()))
    case 'raw':
      return harmless(event.text.trimEnd())
    case 'log':
      return event.level === 'debug' ? undefined : paint.grey(`· ${harmless(event.message)}`)
    case 'egress':
      return event.allowed ? undefined : paint.red(`✗ ${harmless(event.host)}:${event.port} ${event.rule}`)
    case 'delta':
    case 'usage':
      return undefined
  }
}

/** A tool's input on a line: a command as it is, a file by its path, anything else as JSON. */
function describeInput(input: unknown): string {
  if (typeof input !== 'object' || input === null) return cutLine(JSON.stringify(input) ?? '')
  if ('command' in input && typeof input.command === 'string') return cut(input.command)
  if ('file_path' in input && typeof input.file_path === 'string') return input.file_path
  return cutLine(JSON.stringify(input))
}

function cutLine(text: string): string {
  return text.length <= MAX_INPUT_CHARS ? text : `${text.slice(0, MAX_INPUT_CHARS)} …`
}

function cut(text: string): string {
  return text.length <= MAX_RESULT_CHARS ? text : `${text.slice(0, MAX_RESULT_CHARS)} … (${text.length} characters)`
}

function indent(text: string): string {
  return text.trimEnd().replaceAll(/^/gm, '  ')
}

/** What a finished task leaves, for people: how it ended, files, cost, where the time went. */
export function renderSummary(task: Task, paint: Palette): string {
  const ended = task.status === 'succeeded' ? paint.green(task.status) : paint.red(task.status)
  const lines = [`${paint.bold(task.id)} ${ended}${task.error === null ? '' : `: ${harmless(task.error.message)}`}`]
  for (const file of task.files) lines.push(`  ${formatBytes(file.size).padStart(10)}  ${harmless(file.path)}`)
  const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens } = task.usage
  if (inputTokens + outputTokens > 0) {
    lines.push(
      `  ${paint.bold('cost')}  ${formatUsd(task.costUsd)} (${inputTokens} tokens in, ${outputTokens} out, ${cacheReadTokens} read from and ${cacheWriteTokens} written to the cache)`,
    )
  }
  if (task.phases.length > 0) {
    lines.push(
      `  ${paint.bold('time')}  ${task.phases.map((phase) => `${phase.name} ${formatSeconds(phase.ms)}`).join(', ')}`,
    )
  }
  return lines.join('\n')
}

/** `1536` → `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

/** `0.0123` → `$0.0123`. */
export function formatUsd(usd: number): string {
  return `$${usd.toFixed(4)}`
}

/** `1234` ms → `1.2 s`. */
export function formatSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

/** Rows as aligned columns; the first row is the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
