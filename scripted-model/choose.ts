import { positionOf, type MessagesRequest } from './request.ts'
import { Turn, type Conversation, type Script } from './script.ts'

/** The turn that answers a request, and a name under which its faults are counted. */
export interface Choice {
  turn: Turn
  key: string
}

/**
 * The answer to what no conversation covers: a prompt that nothing matches, a script that has run out, and the requests
 * Claude Code makes on the side, e.g. for a title of the session.
 */
const NOTHING_TO_SAY = Turn.parse({
  blocks: [{ type: 'text', text: 'The script has nothing more to say.' }],
  usage: { inputTokens: 10, outputTokens: 8, cacheReadTokens: 0, cacheWriteTokens: 0 },
})

/** Chooses the answer to a request by its content alone. */
export function chooseTurn(script: Script, request: MessagesRequest): Choice {
  const position = positionOf(request)
  const index = script.conversations.findIndex(({ when }) => position.prompt.includes(when))
  const conversation = script.conversations[index]
  const turn = conversation?.turns[position.answers]
  if (conversation === undefined || turn === undefined) return { turn: NOTHING_TO_SAY, key: 'none' }
  // A request on the side repeats the prompt but offers no tools.
  const callsTools = turn.blocks.some((block) => block.type === 'tool_use')
  if (callsTools && request.tools.length === 0) return { turn: NOTHING_TO_SAY, key: 'none' }
  const values = capture(conversation, position.toolResults.join('\n'))
  return { turn: { ...turn, blocks: fill(turn.blocks, values) as Turn['blocks'] }, key: `${index}.${position.answers}` }
}

function capture(conversation: Conversation, toolResults: string): Map<string, string> {
  const found = Object.entries(conversation.captures).map(([name, pattern]) => {
    const match = new RegExp(pattern).exec(toolResults)
    return [name, match?.[1] ?? match?.[0] ?? ''] as const
  })
  return new Map(found)
}

/** A copy of `value` with every `{{name}}` in its strings replaced; unknown names stay as they are. */
function fill(value: unknown, values: Map<string, string>): unknown {
  if (values.size === 0) return value
  if (typeof value === 'string') return value.replaceAll(/\{\{(\w+)\}\}/g, (whole, name) => values.get(name) ?? whole)
  if (Array.isArray(value)) return value.map((item) => fill(item, values))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fill(item, values)]))
}
