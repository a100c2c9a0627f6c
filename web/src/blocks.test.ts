import { describe, expect, it } from 'vitest'
import type { NewEvent, TaskEvent } from '../../src/contracts/event.ts'
import { type Block, CHUNK, EMPTY_TIMELINE, extend, type Timeline } from './blocks.ts'

/** Events as the log would give them, numbered from `from` on. */
function logged(events: NewEvent[], from = 1): TaskEvent[] {
  return events.map((event, index) => ({
    ...event,
    seq: from + index,
    taskId: 't_000000000000',
    at: '2026-05-01T10:00:00.000Z',
  }))
}

function blocks(timeline: Timeline): Block[] {
  return timeline.chunks.flat()
}

function texts(timeline: Timeline): string[] {
  return blocks(timeline).map((block) => {
    if ('texts' in block) return `${block.kind}: ${block.texts.join('|')}`
    return 'text' in block ? `${block.kind}: ${block.text}` : block.kind
  })
}

describe('extend', () => {
  it('grows a block by its deltas and replaces it by the whole block', () => {
    const growing = extend(
      EMPTY_TIMELINE,
      logged([
        { type: 'delta', kind: 'thinking', text: 'Let ' },
        { type: 'delta', kind: 'thinking', text: 'me see' },
      ]),
    )
    expect(blocks(growing)).toMatchObject([{ kind: 'thinking', text: 'Let me see', growing: true }])
    const whole = extend(growing, logged([{ type: 'thinking', text: 'Let me see.' }], 3))
    expect(blocks(whole)).toMatchObject([{ kind: 'thinking', text: 'Let me see.', growing: false }])
  })

  it('keeps growing blocks of the agent and of its subagents apart', () => {
    const timeline = extend(
      EMPTY_TIMELINE,
      logged([
        { type: 'delta', kind: 'text', text: 'main' },
        { type: 'delta', kind: 'text', text: 'sub', parentToolUseId: 'toolu_1' },
        { type: 'text', text: 'sub whole', parentToolUseId: 'toolu_1' },
        { type: 'text', text: 'main whole' },
      ]),
    )
    expect(texts(timeline)).toEqual(['text: main whole', 'text: sub whole'])
  })

  it('ignores events that it has seen before', () => {
    const events = logged([
      { type: 'text', text: 'one' },
      { type: 'text', text: 'two' },
    ])
    const once = extend(EMPTY_TIMELINE, events)
    expect(extend(once, events)).toBe(once)
    expect(texts(extend(once, [...events, ...logged([{ type: 'text', text: 'three' }], 3)]))).toEqual([
      'text: one',
      'text: two',
      'text: three',
    ])
  })

  it('goes over the holes that compacted deltas leave', () => {
    const first = extend(EMPTY_TIMELINE, logged([{ type: 'text', text: 'one' }]))
    expect(texts(extend(first, logged([{ type: 'text', text: 'two' }], 40)))).toEqual(['text: one', 'text: two'])
  })

  it('gives each of several parallel tool calls its own result', () => {
    const timeline = extend(
      EMPTY_TIMELINE,
      logged([
        { type: 'tool_call', toolUseId: 'a', name: 'Read', input: {} },
        { type: 'tool_call', toolUseId: 'b', name: 'Bash', input: {} },
        { type: 'tool_result', toolUseId: 'b', text: 'of b', isError: false },
        { type: 'tool_result', toolUseId: 'a', text: 'of a', isError: true },
      ]),
    )
    expect(blocks(timeline)).toMatchObject([
      { kind: 'tool', call: { name: 'Read' }, result: { text: 'of a' } },
      { kind: 'tool', call: { name: 'Bash' }, result: { text: 'of b' } },
    ])
  })

  it('shows a result without a call, or a second one, by itself', () => {
    const result: NewEvent = { type: 'tool_result', toolUseId: 'a', text: 'x', isError: false }
    const timeline = extend(
      EMPTY_TIMELINE,
      logged([result, { type: 'tool_call', toolUseId: 'a', name: 'Bash', input: {} }, result, result]),
    )
    expect(texts(timeline)).toEqual(['tool_result', 'tool', 'tool_result'])
  })

  it('shows the input of a tool call while it grows, then the call', () => {
    const growing = extend(EMPTY_TIMELINE, logged([{ type: 'delta', kind: 'tool_input', text: '{"com' }]))
    expect(texts(growing)).toEqual(['tool_input: {"com'])
    const whole = extend(growing, logged([{ type: 'tool_call', toolUseId: 'a', name: 'Bash', input: {} }], 2))
    expect(texts(whole)).toEqual(['tool'])
  })

  it('stops the growth of a block that was cut off when the task ends', () => {
    const timeline = extend(
      EMPTY_TIMELINE,
      logged([
        { type: 'delta', kind: 'text', text: 'I was about to' },
        { type: 'status', status: 'failed' },
      ]),
    )
    expect(blocks(timeline)).toMatchObject([
      { kind: 'text', text: 'I was about to', growing: false },
      { kind: 'status' },
    ])
    expect(timeline.growing.size).toBe(0)
  })

  it('joins what was printed, up to a bound', () => {
    const few = extend(
      EMPTY_TIMELINE,
      logged([
        { type: 'raw', text: 'one' },
        { type: 'raw', text: 'two' },
        { type: 'stderr', text: 'warning' },
      ]),
    )
    expect(texts(few)).toEqual(['raw: one|two', 'stderr: warning'])
    const many = extend(EMPTY_TIMELINE, logged(Array.from({ length: 1000 }, () => ({ type: 'raw', text: 'line' }))))
    expect(many.length).toBe(5)
  })

  it('shares the chunks that did not change', () => {
    const text = (index: number): NewEvent => ({ type: 'text', text: String(index) })
    const before = extend(EMPTY_TIMELINE, logged(Array.from({ length: CHUNK * 2 + 1 }, (_, index) => text(index))))
    const after = extend(before, logged([text(0)], 1000))
    expect(after.chunks).toHaveLength(3)
    expect(after.chunks[0]).toBe(before.chunks[0])
    expect(after.chunks[1]).toBe(before.chunks[1])
    expect(before.chunks[2]).toHaveLength(1)
    expect(after.chunks[2]).toHaveLength(2)
    expect(blocks(after).map((block) => block.key)).toEqual(Array.from({ length: after.length }, (_, index) => index))
  })

  it('shows an event of an unknown type as it came', () => {
    const event = { type: 'hologram', seq: 1, taskId: 't_000000000000', at: '2026-05-01T10:00:00.000Z' }
    expect(texts(extend(EMPTY_TIMELINE, [event as unknown as TaskEvent]))).toEqual([`raw: ${JSON.stringify(event)}`])
  })
})
