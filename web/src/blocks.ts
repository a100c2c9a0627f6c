import type { TaskEvent } from '../../src/contracts/event.ts'

type EventOf<Type extends TaskEvent['type']> = Extract<TaskEvent, { type: Type }>

/** What every block has. `key` is its place in the timeline, `parent` the tool call whose subagent it belongs to. */
interface Common {
  key: number
  at: string
  parent: string | undefined
}

/** One thing shown in the stream of a task: an event, several that belong together, or a block that is still growing. */
export type Block = Common &
  (
    | { kind: 'thinking' | 'text'; text: string; growing: boolean }
    | { kind: 'tool_input'; text: string; growing: boolean }
    | { kind: 'tool'; call: EventOf<'tool_call'>; result: EventOf<'tool_result'> | undefined }
    | { kind: 'tool_result'; result: EventOf<'tool_result'> }
    | { kind: 'raw' | 'stderr'; texts: readonly string[]; lines: number; characters: number }
    | { kind: 'result'; event: EventOf<'result'> }
    | { kind: 'log'; event: EventOf<'log'> }
    | { kind: 'status'; event: EventOf<'status'> }
    | { kind: 'usage'; event: EventOf<'usage'> }
    | { kind: 'egress'; event: EventOf<'egress'> }
  )

/** Blocks are kept, and drawn, in runs of this many: a new event touches its own run only. */
export const CHUNK = 50

/** What the agent just printed is joined into one block up to this many lines or characters. */
const MAX_JOINED = { lines: 200, characters: 16_384 }

/** All blocks of a task so far. Immutable: `extend` makes a new one that shares every chunk that did not change. */
export interface Timeline {
  chunks: readonly (readonly Block[])[]
  length: number
  /** The highest sequence number taken in; what is not above it has been seen. */
  lastSeq: number
  /** Place of the growing block for each kind and parent. */
  growing: ReadonlyMap<string, number>
  /** Place of each tool call that still waits for its result. */
  calls: ReadonlyMap<string, number>
}

export const EMPTY_TIMELINE: Timeline = { chunks: [], length: 0, lastSeq: 0, growing: new Map(), calls: new Map() }

type Growing = 'thinking' | 'text' | 'tool_input'

function growingKey(kind: Growing, parent: string | undefined): string {
  return `${kind} ${parent ?? ''}`
}

/** A timeline being extended: copies each chunk it changes, once. */
class Draft {
  readonly chunks: (readonly Block[])[]
  length: number
  readonly growing: Map<string, number>
  readonly calls: Map<string, number>
  private readonly own = new Map<number, Block[]>()

  constructor(base: Timeline) {
    this.chunks = [...base.chunks]
    this.length = base.length
    this.growing = new Map(base.growing)
    this.calls = new Map(base.calls)
  }

  at(place: number): Block | undefined {
    return this.chunks[Math.floor(place / CHUNK)]?.[place % CHUNK]
  }

  set(place: number, block: Block): void {
    const index = Math.floor(place / CHUNK)
    let chunk = this.own.get(index)
    if (!chunk) {
      chunk = [...(this.chunks[index] ?? [])]
      this.own.set(index, chunk)
      this.chunks[index] = chunk
    }
    chunk[place % CHUNK] = block
    this.length = Math.max(this.length, place + 1)
  }

  /** Puts a block in the place of the growing one that it completes, or at the end. */
  put(build: (key: number) => Block, completes?: string): number {
    const grown = completes === undefined ? undefined : this.growing.get(completes)
    const place = grown ?? this.length
    if (completes !== undefined) this.growing.delete(completes)
    this.set(place, build(place))
    return place
  }

  /** Nothing more will come for the blocks that still grow: they stay as they are. */
  settle(): void {
    for (const place of this.growing.values()) {
      const block = this.at(place)
      if (block && 'growing' in block) this.set(place, { ...block, growing: false })
    }
    this.growing.clear()
  }
}

function common(event: TaskEvent): Omit<Common, 'key'> {
  return { at: event.at, parent: 'parentToolUseId' in event ? event.parentToolUseId : undefined }
}

function grow(draft: Draft, event: EventOf<'delta'>): void {
  const key = growingKey(event.kind, event.parentToolUseId)
  const place = draft.growing.get(key)
  const block = place === undefined ? undefined : draft.at(place)
  if (place !== undefined && block && 'growing' in block)
    return draft.set(place, { ...block, text: block.text + event.text })
  const added = draft.put((at) => ({ key: at, ...common(event), kind: event.kind, text: event.text, growing: true }))
  draft.growing.set(key, added)
}

function join(draft: Draft, event: EventOf<'raw'> | EventOf<'stderr'>): void {
  const last = draft.at(draft.length - 1)
  const lines = event.text.split('\n', MAX_JOINED.lines).length
  const characters = event.text.length
  const fits =
    last?.kind === event.type &&
    last.lines + lines <= MAX_JOINED.lines &&
    last.characters + characters <= MAX_JOINED.characters
  if (!fits) {
    const texts = [event.text]
    return void draft.put((key) => ({ key, ...common(event), kind: event.type, texts, lines, characters }))
  }
  const texts = [...last.texts, event.text]
  draft.set(draft.length - 1, { ...last, texts, lines: last.lines + lines, characters: last.characters + characters })
}

function answer(draft: Draft, event: EventOf<'tool_result'>): void {
  const place = draft.calls.get(event.toolUseId)
  const block = place === undefined ? undefined : draft.at(place)
  if (place === undefined || block?.kind !== 'tool')
    return void draft.put((key) => ({ key, ...common(event), kind: 'tool_result', result: event }))
  draft.calls.delete(event.toolUseId)
  draft.set(place, { ...block, result: event })
}

/** An event of a kind that this version of the dashboard does not know is shown as it came. */
function unknown(draft: Draft, event: TaskEvent): void {
  const text = JSON.stringify(event)
  draft.put((key) => ({ key, ...common(event), kind: 'raw', texts: [text], lines: 1, characters: text.length }))
}

function add(draft: Draft, event: TaskEvent): void {
  switch (event.type) {
    case 'delta':
      return grow(draft, event)
    case 'thinking':
    case 'text': {
      const completes = growingKey(event.type, event.parentToolUseId)
      draft.put((key) => ({ key, ...common(event), kind: event.type, text: event.text, growing: false }), completes)
      return
    }
    case 'tool_call': {
      const completes = growingKey('tool_input', event.parentToolUseId)
      const build = (key: number): Block => ({ key, ...common(event), kind: 'tool', call: event, result: undefined })
      draft.calls.set(event.toolUseId, draft.put(build, completes))
      return
    }
    case 'tool_result':
      return answer(draft, event)
    case 'raw':
    case 'stderr':
      return join(draft, event)
    case 'result':
      draft.settle()
      draft.put((key) => ({ key, ...common(event), kind: 'result', event }))
      return
    case 'status':
      if (event.status !== 'running' && event.status !== 'waiting') draft.settle()
      draft.put((key) => ({ key, ...common(event), kind: 'status', event }))
      return
    case 'log':
      draft.put((key) => ({ key, ...common(event), kind: 'log', event }))
      return
    case 'usage':
      draft.put((key) => ({ key, ...common(event), kind: 'usage', event }))
      return
    case 'egress':
      draft.put((key) => ({ key, ...common(event), kind: 'egress', event }))
      return
    default:
      unknown(draft, event)
  }
}

/**
 * The timeline with more events. They come in the order of their sequence numbers; what was seen before is ignored.
 * Growing text is replaced by its whole block, a tool's result joins its call, printed lines join each other.
 */
export function extend(timeline: Timeline, events: readonly TaskEvent[]): Timeline {
  const draft = new Draft(timeline)
  let lastSeq = timeline.lastSeq
  for (const event of events) {
    if (event.seq <= lastSeq) continue
    lastSeq = event.seq
    add(draft, event)
  }
  if (lastSeq === timeline.lastSeq) return timeline
  return { chunks: draft.chunks, length: draft.length, lastSeq, growing: draft.growing, calls: draft.calls }
}
