import type { Failure } from '../contracts/errors.ts'
import type { ExecExit } from '../link/types.ts'
import type { ResultFact } from './claude-events.ts'
import type { Tail } from './failures.ts'
import { describeExit, exitFailure } from './failures.ts'
import type { AgentOutcome, AgentStart } from './types.ts'

const WHO = 'Claude Code'

/** How a run went: it succeeded when its last result is no error *and* the process ended with 0, never one alone. */
export function claudeOutcome(
  start: AgentStart,
  exit: ExecExit,
  result: ResultFact | undefined,
  stderr: Tail,
): AgentOutcome {
  const failure = findFailure(start, exit, result, stderr)
  return { result: result?.text ?? null, turns: result?.turns ?? 0, failure }
}

function findFailure(
  start: AgentStart,
  exit: ExecExit,
  result: ResultFact | undefined,
  stderr: Tail,
): Failure | undefined {
  if (result?.isError === true) return resultFailure(start, result)
  if (exit.code !== 0) {
    const failure = exitFailure(WHO, exit, stderr)
    if (result === undefined || failure.code === 'out_of_memory') return failure
    return { ...failure, message: `${failure.message} (its result before that was no error)` }
  }
  if (result === undefined)
    return { code: 'agent_failed', message: `${WHO} ${describeExit(exit)} without giving a result.` }
  return undefined
}

function resultFailure(start: AgentStart, result: ResultFact): Failure {
  const said = result.text.trim().slice(0, 2000)
  if (result.subtype === 'error_max_turns') {
    const limit = start.maxTurns === null ? '' : ` (${start.maxTurns})`
    return { code: 'max_turns', message: `${WHO} reached its limit of turns${limit}. Allow more (maxTurns).` }
  }
  if (result.subtype === 'error_max_budget_usd') {
    return { code: 'over_budget', message: `${WHO} reached its budget. Allow more (maxCostUsd).` }
  }
  if (result.apiError) return { code: 'model_error', message: `The model's API failed: ${said}` }
  return { code: 'agent_failed', message: `${WHO} failed (${result.subtype})${said === '' ? '.' : `: ${said}`}` }
}
