import { VivariumError } from '../contracts/errors.ts'
import { requirePart } from '../contracts/removed.ts'
import { isFinal } from '../contracts/task.ts'
import type { ForkRequest, TaskRequest } from '../contracts/task.ts'
import type { Origin, StoredRequest } from './task-store.ts'

/**
 * A follow-up as it is stored: what it must share with the task it goes on from is that task's, and what it may have of its own and does
 * not name, too. Rejects with `conflict` when there is nothing to go on from, `invalid_request` for what does not go together.
 */
export function followUp(origin: Origin, request: TaskRequest, isKept: boolean): TaskRequest {
  refuseUnfit(origin, request)
  refuseWithoutState(origin, isKept)
  const { agent, memoryMib, vcpus, template, env, model, maxTurns, maxCostUsd } = origin.request
  const network = networkOf(origin.request, request)
  return {
    ...present({ env, model, maxTurns, maxCostUsd }),
    ...request,
    agent,
    memoryMib,
    vcpus,
    ...present({ template, network }),
  }
}

/** The tasks that a fork asks for; what it does not name is as in the task forked from. */
export function forkRequest(origin: Origin, fork: ForkRequest): TaskRequest {
  const { timeoutSeconds, priority, metadata, agent, memoryMib, vcpus } = origin.request
  const { count: _count, ...named } = fork
  const own = { timeoutSeconds, priority, agent, memoryMib, vcpus, ...present({ metadata }), ...present(named) }
  return { ...own, prompt: fork.prompt, continues: origin.id, fork: true }
}

function refuseUnfit(origin: Origin, request: TaskRequest): void {
  const { id, status } = origin
  if (!isFinal(status)) {
    const message = `The task ${id} is still ${status}: wait for its end, or cancel it, before another goes on from it.`
    throw new VivariumError('conflict', message, { field: 'continues' })
  }
  if (request.repo !== undefined) {
    const message = `A task that goes on from another has that one's workspace: leave repo out, or clone it in the prompt.`
    throw new VivariumError('invalid_request', message, { field: 'repo' })
  }
  // The default can't be told from what somebody asked for, so only the other one is a contradiction.
  if (request.agent !== origin.request.agent && request.agent !== 'claude-code') {
    const message = `The task ${id} is one of ${origin.request.agent}: what goes on from it is, too. Leave agent out.`
    throw new VivariumError('invalid_request', message, { field: 'agent' })
  }
  if (request.template !== undefined && request.template !== origin.request.template) {
    const message = `A task that goes on from another starts from the same template: leave template out.`
    throw new VivariumError('invalid_request', message, { field: 'template' })
  }
}

function refuseWithoutState({ id, hasState, removed }: Origin, isKept: boolean): void {
  if (isKept || hasState) return
  requirePart({ id, removed }, 'state')
  const message = `Nothing is left of the task ${id} to go on from: its machine is gone and its workspace was not stored. Run it again with keepVmSeconds, or allow more (results.stateMib).`
  throw new VivariumError('conflict', message, { field: 'continues' })
}

/** The way to the repository stays open: it is in the workspace. */
function networkOf(origin: StoredRequest, request: TaskRequest): TaskRequest['network'] {
  const network = request.network ?? origin.network
  if (origin.repo === undefined) return network
  return { allow: [...(network?.allow ?? []), new URL(origin.repo.url).host] }
}

/** Only what has a value: a property that is there and undefined would overwrite one that has. */
function present<Shape extends object>(shape: Shape): { [Key in keyof Shape]?: Exclude<Shape[Key], undefined> } {
  const entries = Object.entries(shape).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as { [Key in keyof Shape]?: Exclude<Shape[Key], undefined> }
}
