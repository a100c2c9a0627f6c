import { constants } from 'node:os'
import type { Failure } from '../contracts/errors.ts'
import type { FinalStatus } from '../contracts/task.ts'
import type { EgressSession } from '../gateway/types.ts'
import type { ExecExit } from '../link/types.ts'
import type { AgentEnd } from './agent-run.ts'
import { statusOf } from './stop.ts'

/** How a run ended, for the row and the last event. */
export interface Ending {
  status: FinalStatus
  failure: Failure | undefined
  exitCode: number | null
  result: string | null
  turns: number
}

/** What the task has spent, and which budget refused it more. */
type Totals = Pick<ReturnType<EgressSession['totals']>, 'costUsd' | 'overBudget' | 'overBudgetReason'>

/** What the gateway last knew of a refused or failed model request. */
export interface ModelError {
  status: number
  type: string
  message: string
}

/** A task's result is its end in words; all of it is in the events. */
const MAX_RESULT_CHARS = 100_000

/** What an agent's end means for its task. */
export function judge(end: AgentEnd, totals: Totals, modelError: ModelError | undefined): Ending {
  const { outcome, exit, stopped } = end
  const failure = stopped?.failure ?? explain(outcome.failure, totals, modelError)
  return {
    status: stopped?.status ?? (failure === undefined ? 'succeeded' : statusOf(failure.code)),
    failure,
    exitCode: exit === undefined ? null : exitCode(exit),
    result: outcome.result === null ? null : storable(outcome.result),
    turns: outcome.turns,
  }
}

/** The agent's own word for its failure, corrected by what the gateway knows better. */
function explain(
  failure: Failure | undefined,
  totals: Totals,
  modelError: ModelError | undefined,
): Failure | undefined {
  if (failure === undefined) return undefined
  if (totals.overBudget) {
    const message = totals.overBudgetReason ?? `A budget is spent ($${totals.costUsd.toFixed(4)} by this task).`
    return { code: 'over_budget', message }
  }
  if (failure.code !== 'model_error' || modelError === undefined) return failure
  const { status, type, message } = modelError
  return { code: 'model_error', message: `${failure.message} (the gateway saw ${status} ${type}: ${message})` }
}

/** As a shell counts: 128 and the signal's number when a signal ended the process. */
function exitCode({ code, signal }: ExecExit): number | null {
  if (code !== null || signal === null) return code
  const number = Object.entries(constants.signals).find(([name]) => name === signal)?.[1]
  return number === undefined ? null : 128 + number
}

/** Text as every database keeps it: no NUL, no half characters, not too long. */
function storable(text: string): string {
  return text.slice(-MAX_RESULT_CHARS).replaceAll('\0', '\uFFFD').toWellFormed()
}
