/** A line of a change: taken away, added, or left. */
export interface DiffLine {
  sign: '-' | '+' | ' '
  text: string
}

export interface Todo {
  text: string
  state: 'pending' | 'in_progress' | 'completed'
}

/** A part of a tool call's input, in the form it is shown. */
export type ToolPart =
  | { kind: 'command'; text: string }
  | { kind: 'code'; text: string }
  | { kind: 'words'; text: string }
  | { kind: 'diff'; lines: DiffLine[] }
  | { kind: 'todos'; items: Todo[] }

/** A tool call as it is shown: a line beside the tool's name, and parts below. */
export interface ToolView {
  summary: string
  parts: ToolPart[]
}

/** Fields of a tool's input. Anything can stand in them: a model wrote it, or a hostile guest. */
class Input {
  readonly value: unknown

  constructor(value: unknown) {
    this.value = value
  }

  get(name: string): unknown {
    const { value } = this
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
  }

  /** The text in a field; empty where there is none. */
  text(name: string): string {
    const value = this.get(name)
    return typeof value === 'string' ? value : ''
  }

  list(name: string): Input[] {
    const value = this.get(name)
    return Array.isArray(value) ? value.map((item) => new Input(item)) : []
  }
}

function lines(text: string, sign: DiffLine['sign']): DiffLine[] {
  return text === '' ? [] : text.split('\n').map((line) => ({ sign, text: line }))
}

/** What an edit changes: lines that stay the same at both ends are shown once, those between as removed and added. */
export function diff(before: string, after: string): DiffLine[] {
  const a = before.split('\n')
  const b = after.split('\n')
  let head = 0
  while (head < Math.min(a.length, b.length) && a[head] === b[head]) head++
  let tail = 0
  while (tail < Math.min(a.length, b.length) - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++
  return [
    ...lines(a.slice(0, head).join('\n'), ' '),
    ...lines(a.slice(head, a.length - tail).join('\n'), '-'),
    ...lines(b.slice(head, b.length - tail).join('\n'), '+'),
    ...lines(a.slice(a.length - tail).join('\n'), ' '),
  ]
}

function edit(input: Input): ToolPart {
  return { kind: 'diff', lines: diff(input.text('old_string'), input.text('new_string')) }
}

function todo(input: Input): Todo {
  const status = input.text('status')
  return {
    text: input.text('content'),
    state: status === 'completed' || status === 'in_progress' ? status : 'pending',
  }
}

function range(input: Input): string {
  const offset = input.get('offset')
  const limit = input.get('limit')
  if (typeof offset !== 'number' && typeof limit !== 'number') return ''
  const first = typeof offset === 'number' ? offset : 1
  return typeof limit === 'number' ? ` lines ${first}–${first + limit - 1}` : ` from line ${first}`
}

/** Tools of Claude Code that have a form of their own. */
const VIEWS: Record<string, (input: Input) => ToolView> = {
  Bash: (input) => ({
    summary: input.text('description'),
    parts: [{ kind: 'command', text: input.text('command') }],
  }),
  Read: (input) => ({ summary: input.text('file_path') + range(input), parts: [] }),
  Write: (input) => ({
    summary: input.text('file_path'),
    parts: [{ kind: 'code', text: input.text('content') }],
  }),
  Edit: (input) => ({ summary: input.text('file_path'), parts: [edit(input)] }),
  MultiEdit: (input) => ({ summary: input.text('file_path'), parts: input.list('edits').map(edit) }),
  Glob: (input) => ({ summary: [input.text('pattern'), input.text('path')].filter(Boolean).join(' in '), parts: [] }),
  Grep: (input) => ({ summary: [input.text('pattern'), input.text('path')].filter(Boolean).join(' in '), parts: [] }),
  TodoWrite: (input) => ({ summary: '', parts: [{ kind: 'todos', items: input.list('todos').map(todo) }] }),
  Task: (input) => ({
    summary: [input.text('subagent_type'), input.text('description')].filter(Boolean).join(': '),
    parts: [{ kind: 'words', text: input.text('prompt') }],
  }),
  WebFetch: (input) => ({ summary: input.text('url'), parts: [{ kind: 'words', text: input.text('prompt') }] }),
  WebSearch: (input) => ({ summary: input.text('query'), parts: [] }),
}
VIEWS['Agent'] = VIEWS['Task'] ?? pretty

function pretty(input: Input): ToolView {
  const text = JSON.stringify(input.value, undefined, 2) ?? ''
  return { summary: '', parts: text === '{}' ? [] : [{ kind: 'code', text }] }
}

function isBlank(view: ToolView): boolean {
  return view.summary === '' && view.parts.every((part) => 'text' in part && part.text === '')
}

/** How a tool call is shown. A tool without a form of its own, or with an input that does not fit it, is shown as JSON. */
export function viewTool(name: string, input: unknown): ToolView {
  const known = Object.hasOwn(VIEWS, name) ? VIEWS[name] : undefined
  const view = known?.(new Input(input))
  return view && !isBlank(view) ? view : pretty(new Input(input))
}
