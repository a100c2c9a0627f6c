import { z } from 'zod'

/**
 * The lines of `claude --output-format stream-json`, as of 2.1.330. Lenient: only what we use is named, the rest passes
 * through, because new fields and types appear between releases.
 */

/** Content arrays beyond this are no real message; each element would become an event. */
const MAX_BLOCKS = 1000

const parent = { parent_tool_use_id: z.string().nullish().catch(undefined) }
const blocks = z.array(z.unknown()).max(MAX_BLOCKS)
const count = z.int().nonnegative().optional().catch(undefined)
const amount = z.number().nonnegative().optional().catch(undefined)
const word = z.string().optional().catch(undefined)
/** Kept for as long as the run lasts, so none may be large. */
const id = z.string().max(200).optional().catch(undefined)

export const AnyLine = z.looseObject({ type: z.string() })

export const AssistantLine = z.looseObject({ message: z.looseObject({ content: blocks }), ...parent })
export const AssistantBlock = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('thinking'), thinking: z.string() }),
  z.looseObject({ type: z.literal('text'), text: z.string() }),
  z.looseObject({ type: z.literal('tool_use'), id: z.string(), name: z.string(), input: z.unknown() }),
])

export const UserLine = z.looseObject({ message: z.looseObject({ content: blocks }), ...parent })
export const ToolResultBlock = z.looseObject({
  type: z.literal('tool_result'),
  tool_use_id: z.string(),
  content: z.union([z.string(), blocks]).optional(),
  is_error: z.boolean().nullish().catch(undefined),
})
export const ToolResultPart = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('text'), text: z.string() }),
  z.looseObject({
    type: z.literal('image'),
    source: z.looseObject({ type: z.literal('base64'), media_type: z.string(), data: z.string() }),
  }),
])

export const StreamEventLine = z.looseObject({
  event: z.looseObject({
    type: z.literal('content_block_delta'),
    delta: z.discriminatedUnion('type', [
      z.looseObject({ type: z.literal('thinking_delta'), thinking: z.string() }),
      z.looseObject({ type: z.literal('text_delta'), text: z.string() }),
      z.looseObject({ type: z.literal('input_json_delta'), partial_json: z.string() }),
    ]),
  }),
  ...parent,
})

export const SystemLine = z.looseObject({
  subtype: z.string(),
  model: word,
  claude_code_version: word,
  /** Of `api_retry`. */
  error: word,
  attempt: count,
  max_retries: count,
  /** Of `task_started` and `task_notification`: work in the background. */
  task_id: id,
})

export const ResultLine = z.looseObject({
  subtype: z.string(),
  is_error: z.boolean(),
  result: word,
  errors: z.array(z.string()).optional().catch(undefined),
  num_turns: count,
  duration_ms: amount,
  total_cost_usd: amount,
  api_error_status: z.union([z.number(), z.string()]).nullish().catch(undefined),
})
export type ResultLine = z.infer<typeof ResultLine>
