import type { Block, Turn } from './script.ts'

/** A server-sent event of the Messages API. */
export interface StreamEvent {
  type: string
  [field: string]: unknown
}

/** Signatures of thinking are opaque to clients and sent back unchanged; the scripted model never checks them. */
const SIGNATURE = Buffer.from('scripted').toString('base64')

function apiUsage({ usage }: Turn, outputTokens: number) {
  return {
    input_tokens: usage.inputTokens,
    cache_creation_input_tokens: usage.cacheWriteTokens,
    cache_read_input_tokens: usage.cacheReadTokens,
    cache_creation: { ephemeral_5m_input_tokens: usage.cacheWriteTokens, ephemeral_1h_input_tokens: 0 },
    output_tokens: outputTokens,
    service_tier: 'standard',
  }
}

function apiBlock(block: Block, id: string) {
  if (block.type === 'thinking') return { type: 'thinking', thinking: block.text, signature: SIGNATURE }
  if (block.type === 'text') return { type: 'text', text: block.text }
  return { type: 'tool_use', id, name: block.name, input: block.input }
}

function stopReason(turn: Turn): string {
  return turn.stopReason ?? (turn.blocks.some((block) => block.type === 'tool_use') ? 'tool_use' : 'end_turn')
}

/** The answer as one JSON message. `id` makes ids of messages and tool calls unique. */
export function messageOf(turn: Turn, id: string, model: string) {
  return {
    id: `msg_${id}`,
    type: 'message',
    role: 'assistant',
    model,
    content: turn.blocks.map((block, index) => apiBlock(block, `toolu_${id}_${index}`)),
    stop_reason: stopReason(turn),
    stop_sequence: null,
    usage: apiUsage(turn, turn.usage.outputTokens),
  }
}

/** The same answer as the events of a stream. Like the real API, only the last one names the final count of output tokens. */
export function* eventsOf(turn: Turn, id: string, model: string): Generator<StreamEvent> {
  const empty = { ...messageOf(turn, id, model), content: [], stop_reason: null, usage: apiUsage(turn, 1) }
  yield { type: 'message_start', message: empty }
  for (const [index, block] of turn.blocks.entries()) {
    yield { type: 'content_block_start', index, content_block: emptyBlock(block, `toolu_${id}_${index}`) }
    for (const delta of deltasOf(block, turn.pieceChars)) yield { type: 'content_block_delta', index, delta }
    yield { type: 'content_block_stop', index }
  }
  yield {
    type: 'message_delta',
    delta: { stop_reason: stopReason(turn), stop_sequence: null },
    usage: { output_tokens: turn.usage.outputTokens },
  }
  yield { type: 'message_stop' }
}

function emptyBlock(block: Block, id: string) {
  if (block.type === 'thinking') return { type: 'thinking', thinking: '', signature: '' }
  if (block.type === 'text') return { type: 'text', text: '' }
  return { type: 'tool_use', id, name: block.name, input: {} }
}

function* deltasOf(block: Block, size: number) {
  if (block.type === 'tool_use') {
    for (const piece of pieces(JSON.stringify(block.input), size))
      yield { type: 'input_json_delta', partial_json: piece }
    return
  }
  for (const piece of pieces(block.text, size))
    yield block.type === 'text' ? { type: 'text_delta', text: piece } : { type: 'thinking_delta', thinking: piece }
  if (block.type === 'thinking') yield { type: 'signature_delta', signature: SIGNATURE }
}

function* pieces(text: string, size: number) {
  for (let at = 0; at < text.length; at += size) yield text.slice(at, at + size)
}
