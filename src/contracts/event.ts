import { z } from 'zod'
import { Failure } from './errors.ts'
import { ModelRequestId, TaskId } from './ids.ts'
import { TaskStatus } from './task.ts'
import { TokenUsage } from './usage.ts'

const envelope = {
  /** 1, 2, 3 … within one task, without a hole. */
  seq: z.int().positive(),
  taskId: TaskId,
  at: z.iso.datetime(),
}

function event<Type extends string, Shape extends z.ZodRawShape>(type: Type, shape: Shape) {
  return z.object({ ...envelope, type: z.literal(type), ...shape })
}

/** An image in a tool's result; `data` is base64. */
export const EventImage = z.object({ mimeType: z.string(), data: z.string() })

/** The parts a subagent's events carry: the id of the tool call that started it. */
const parent = { parentToolUseId: z.string().optional() }

export const TaskEvent = z.discriminatedUnion('type', [
  /** The task entered `status`, or a step of a start began (`phase`: a short name, `message`: for people). */
  event('status', {
    status: TaskStatus,
    phase: z.string().optional(),
    message: z.string().optional(),
    vmId: z.string().optional(),
    error: Failure.optional(),
  }),
  /** Partial text of a block that is still growing, coalesced; the whole block follows as `thinking`, `text` or `tool_call`. */
  event('delta', { kind: z.enum(['thinking', 'text', 'tool_input']), text: z.string(), ...parent }),
  event('thinking', { text: z.string(), ...parent }),
  event('text', { text: z.string(), ...parent }),
  event('tool_call', { toolUseId: z.string(), name: z.string(), input: z.unknown(), ...parent }),
  event('tool_result', {
    toolUseId: z.string(),
    text: z.string(),
    isError: z.boolean(),
    images: z.array(EventImage).optional(),
    ...parent,
  }),
  /** The agent's own closing words. A run can give several; the last counts. */
  event('result', {
    isError: z.boolean(),
    text: z.string(),
    subtype: z.string().optional(),
    turns: z.int().optional(),
    durationMs: z.number().optional(),
    /** What the CLI itself believes the run cost; the gateway's count is the task's `costUsd`. */
    reportedCostUsd: z.number().optional(),
  }),
  event('stderr', { text: z.string() }),
  /** What Vivarium or the agent says of itself. */
  event('log', {
    level: z.enum(['debug', 'info', 'warn', 'error']),
    message: z.string(),
    data: z.unknown().optional(),
  }),
  /** One model request, counted at the gateway. `costUsd` is null where the model has no known price. */
  event('usage', {
    /** Each request has one event. Absent in events of older versions. */
    requestId: ModelRequestId.optional(),
    model: z.string(),
    costUsd: z.number().nullable(),
    complete: z.boolean(),
    /** Dollars that budgets are charged, where that is not the cost: see `docs/operations.md`, "Budgets and usage". */
    chargedUsd: z.number().optional(),
    /** Dollars by which a budget is overspent with this request; absent where none is. */
    overBudgetUsd: z.number().optional(),
    ...TokenUsage.shape,
  }),
  /** A decision of the gateway on a connection that the guest asked for. */
  event('egress', {
    host: z.string(),
    port: z.int(),
    allowed: z.boolean(),
    /** The rule that decided, e.g. `allow registry.example`, `deny by default`. */
    rule: z.string(),
    bytesOut: z.number().optional(),
    bytesIn: z.number().optional(),
  }),
  /** A line the agent printed and we did not understand, or output of an agent that prints plain text. */
  event('raw', { text: z.string() }),
])
export type TaskEvent = z.infer<typeof TaskEvent>

/** An event before the log gave it its place. */
export type NewEvent = TaskEvent extends infer Event
  ? Event extends TaskEvent
    ? Omit<Event, keyof typeof envelope>
    : never
  : never

/** Query of `GET /tasks/{id}/events` and `/stream`: `from=N` includes N. */
export const EventQuery = z.object({
  from: z.coerce.number().int().min(1).default(1),
  limit: z.coerce.number().int().min(1).max(10_000).default(1000),
})

export const EventList = z.object({
  items: z.array(TaskEvent),
  /** The `from` of the next page; absent when the log has no more for now. */
  nextFrom: z.int().optional(),
})
export type EventList = z.infer<typeof EventList>
