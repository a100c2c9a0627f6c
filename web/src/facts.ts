import type { TaskEvent } from '../../src/contracts/event.ts'
import type { TaskStatus } from '../../src/contracts/task.ts'
import type { TokenUsage } from '../../src/contracts/usage.ts'

/** A step of the start; `end` is undefined while it runs. Times are ms since the epoch. */
interface Step {
  name: string
  message: string | undefined
  begin: number
  end: number | undefined
}

/** All connections of the guest to one address that were decided alike. */
interface Egress {
  host: string
  port: number
  allowed: boolean
  rule: string
  connections: number
  bytesOut: number
  bytesIn: number
}

/** What a task's events tell about it as a whole, for the panels beside the stream. */
export interface Facts {
  lastSeq: number
  status: TaskStatus | undefined
  steps: readonly Step[]
  /** Model requests, counted at the gateway. `unpriced` is how many had no known price. */
  usage: TokenUsage & { requests: number; unpriced: number; costUsd: number; models: readonly string[] }
  /** What the agent itself believes that it cost; undefined before it has said so. */
  reportedCostUsd: number | undefined
  egress: ReadonlyMap<string, Egress>
  /** Decisions on addresses beyond the MAX_ADDRESSES that are listed. */
  egressBeyond: number
}

/** A guest can ask for as many addresses as it likes; the list shows the first ones. */
const MAX_ADDRESSES = 300
const MAX_STEPS = 100

export const NO_FACTS: Facts = {
  lastSeq: 0,
  status: undefined,
  steps: [],
  usage: {
    inputTokens: 0,
    outputTokens: 0,
    cacheReadTokens: 0,
    cacheWriteTokens: 0,
    requests: 0,
    unpriced: 0,
    costUsd: 0,
    models: [],
  },
  reportedCostUsd: undefined,
  egress: new Map(),
  egressBeyond: 0,
}

type EventOf<Type extends TaskEvent['type']> = Extract<TaskEvent, { type: Type }>

function withStatus(facts: Facts, event: EventOf<'status'>): Facts {
  const at = Date.parse(event.at)
  const last = facts.steps.at(-1)
  const isSame = event.phase !== undefined && last?.name === event.phase && last.end === undefined
  // A step can say several things while it lasts.
  if (isSame) return { ...facts, steps: [...facts.steps.slice(0, -1), { ...last, message: event.message }] }
  const steps = facts.steps.map((step) => (step.end === undefined ? { ...step, end: at } : step))
  const isStep = event.phase !== undefined && (event.status === 'starting' || event.status === 'queued')
  if (isStep && steps.length < MAX_STEPS)
    steps.push({ name: event.phase ?? '', message: event.message, begin: at, end: undefined })
  return { ...facts, status: event.status, steps }
}

function withUsage(facts: Facts, event: EventOf<'usage'>): Facts {
  const { usage } = facts
  return {
    ...facts,
    usage: {
      inputTokens: usage.inputTokens + event.inputTokens,
      outputTokens: usage.outputTokens + event.outputTokens,
      cacheReadTokens: usage.cacheReadTokens + event.cacheReadTokens,
      cacheWriteTokens: usage.cacheWriteTokens + event.cacheWriteTokens,
      requests: usage.requests + 1,
      unpriced: usage.unpriced + (event.costUsd === null ? 1 : 0),
      costUsd: usage.costUsd + (event.costUsd ?? 0),
      models: usage.models.includes(event.model) ? usage.models : [...usage.models, event.model],
    },
  }
}

/** Adds to `egress`, which belongs to the caller; returns whether there was room. */
function addEgress(egress: Map<string, Egress>, event: EventOf<'egress'>): boolean {
  const key = `${event.host}:${event.port} ${event.allowed}`
  const known = egress.get(key)
  if (!known && egress.size >= MAX_ADDRESSES) return false
  egress.set(key, {
    host: event.host,
    port: event.port,
    allowed: event.allowed,
    rule: event.rule,
    connections: (known?.connections ?? 0) + 1,
    bytesOut: (known?.bytesOut ?? 0) + (event.bytesOut ?? 0),
    bytesIn: (known?.bytesIn ?? 0) + (event.bytesIn ?? 0),
  })
  return true
}

/** The facts with more events, in the order of their sequence numbers; what was seen before is ignored. */
export function learn(facts: Facts, events: readonly TaskEvent[]): Facts {
  let next = facts
  let egress: Map<string, Egress> | undefined
  for (const event of events) {
    if (event.seq <= next.lastSeq) continue
    if (event.type === 'status') next = withStatus(next, event)
    if (event.type === 'usage') next = withUsage(next, event)
    if (event.type === 'result') next = { ...next, reportedCostUsd: event.reportedCostUsd ?? next.reportedCostUsd }
    if (event.type === 'egress') {
      egress ??= new Map(facts.egress)
      const listed = addEgress(egress, event)
      next = { ...next, egress, egressBeyond: next.egressBeyond + (listed ? 0 : 1) }
    }
    next = { ...next, lastSeq: event.seq }
  }
  return next
}
