import { z } from 'zod'

const Content = z.union([z.string(), z.array(z.looseObject({ type: z.string() }))])

/** The part of a Messages API request that decides on the answer. Everything else is let through unread. */
export const MessagesRequest = z.looseObject({
  model: z.string(),
  stream: z.boolean().default(false),
  messages: z.array(z.looseObject({ role: z.string(), content: Content })).min(1),
  tools: z.array(z.unknown()).default([]),
})
export type MessagesRequest = z.infer<typeof MessagesRequest>
type Message = MessagesRequest['messages'][number]

/** What Claude Code adds to a prompt on its own account. */
const REMINDER = /<system-reminder>[\s\S]*?<\/system-reminder>/g

function isToolResult(message: Message): boolean {
  return typeof message.content !== 'string' && message.content.some((block) => block.type === 'tool_result')
}

/** All text in a piece of content, the reminders taken out. */
function textOf(content: unknown): string {
  if (typeof content === 'string') return content.replaceAll(REMINDER, '').trim()
  if (!Array.isArray(content)) return ''
  return content
    .map((block: { text?: unknown; content?: unknown }) => textOf(block.text ?? block.content))
    .filter((text) => text !== '')
    .join('\n')
}

/** Where a request stands: the last prompt a person wrote, how often the model has answered since, what its tools gave. */
export interface Position {
  prompt: string
  answers: number
  toolResults: string[]
}

/** Finds the position in a request. A user message made of tool results or reminders only is no prompt. */
export function positionOf(request: MessagesRequest): Position {
  const { messages } = request
  const at = messages.findLastIndex(
    (message) => message.role === 'user' && !isToolResult(message) && textOf(message.content) !== '',
  )
  const since = messages.slice(at + 1)
  return {
    prompt: textOf(messages[at]?.content),
    answers: since.filter((message) => message.role === 'assistant').length,
    toolResults: since.filter((message) => isToolResult(message)).map((message) => textOf(message.content)),
  }
}
