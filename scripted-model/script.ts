/**
 * What the scripted model says, as data. A script is a list of conversations; a request is answered by the first one
 * whose `when` occurs in the prompt, with the turn that is due. Which turn is due follows from the request alone (the
 * assistant's messages since the prompt are counted), so concurrent runs and retries need no state here.
 */
import { z } from 'zod'

/** Strings in blocks may hold `{{name}}`, replaced by what the conversation's `captures` found. */
const Block = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('thinking'), text: z.string() }),
  z.strictObject({ type: z.literal('text'), text: z.string() }),
  z.strictObject({ type: z.literal('tool_use'), name: z.string(), input: z.record(z.string(), z.unknown()) }),
])
export type Block = z.infer<typeof Block>

const Usage = z.strictObject({
  inputTokens: z.int().nonnegative().default(1000),
  outputTokens: z.int().nonnegative().default(42),
  cacheReadTokens: z.int().nonnegative().default(300),
  cacheWriteTokens: z.int().nonnegative().default(200),
})

/** What goes wrong instead of, or in the middle of, an answer. */
const Fault = z.discriminatedUnion('kind', [
  /** An error answer, e.g. 401 `authentication_error`, 429 `rate_limit_error`, 529 `overloaded_error`. */
  z.strictObject({
    kind: z.literal('status'),
    status: z.int().min(400).max(599),
    type: z.string(),
    message: z.string(),
    headers: z.record(z.string(), z.string()).default({}),
  }),
  /** A body that is not JSON, or an event whose data is not, after `afterEvents` good events. */
  z.strictObject({ kind: z.literal('malformed'), afterEvents: z.int().nonnegative().default(0) }),
  /** Silence after `afterEvents` events; 0 sends not even a status line. */
  z.strictObject({ kind: z.literal('hang'), afterEvents: z.int().nonnegative().default(0) }),
  /** The connection is cut after `afterEvents` events. */
  z.strictObject({ kind: z.literal('cut'), afterEvents: z.int().nonnegative().default(0) }),
])
export type Fault = z.infer<typeof Fault>

export const Turn = z.strictObject({
  blocks: z.array(Block).default([]),
  usage: Usage.prefault({}),
  /** `tool_use` where a block calls a tool, else `end_turn`. */
  stopReason: z.string().optional(),
  /** Milliseconds before the answer begins. */
  delayMs: z.int().nonnegative().default(0),
  /** Milliseconds between two streamed pieces. */
  pieceDelayMs: z.int().nonnegative().default(0),
  /** Characters in a streamed piece of text. */
  pieceChars: z.int().positive().default(24),
  fault: Fault.optional(),
  /** How many requests for this turn meet the fault before one is answered; all of them by default. */
  faultTimes: z.int().positive().optional(),
})
export type Turn = z.infer<typeof Turn>

const Conversation = z.strictObject({
  /** Text that must occur in the prompt; the empty string matches every prompt. */
  when: z.string(),
  turns: z.array(Turn).min(1),
  /** Values taken from tool results since the prompt: name → regular expression (its first group, if it has one, counts). */
  captures: z.record(z.string(), z.string()).default({}),
})
export type Conversation = z.infer<typeof Conversation>

export const Script = z.strictObject({ conversations: z.array(Conversation) })
export type Script = z.infer<typeof Script>
/** A script as it is written: defaults may be left out. */
export type ScriptInput = z.input<typeof Script>
