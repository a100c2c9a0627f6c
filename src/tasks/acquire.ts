import { toVivariumError, VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import type { EgressSession } from '../gateway/types.ts'
import type { Machine, MachineUse, ReadyWish, WaitingAgent } from '../machines/types.ts'
import type { Run, RunServices } from './run.ts'
import type { Origin } from './task-store.ts'
import { hasSettled } from './waiting.ts'

/** Ready machines that turn out to be of no use are given up after so many. */
const MAX_READY_TRIES = 2

/** A task's machine, and what is in it already. */
export interface Place {
  machine: Machine
  /** The way out of this machine, opened for this task. */
  session: EgressSession
  /** An agent that waits for its prompt; the baseline is marked. */
  waiting: WaitingAgent | undefined
  /** Whether workspace and conversation of the task that this one goes on from are in place. */
  hasState: boolean
  /** Until when the machine was to be kept already; ISO 8601. */
  keepUntil: string | null
}

export interface AcquireOptions {
  services: Pick<RunServices, 'machines' | 'pool' | 'kept' | 'agents' | 'gateway'>
  run: Run
  /** The task that this one goes on from. */
  origin: Origin | undefined
  openSession(machineId: string): EgressSession
  closeSession(session: EgressSession): Promise<void>
  /** Called before each attempt with the machine it is about. */
  onMachine(machineId: string): Promise<void>
  /** Called with each change of the machine that the task gets. */
  onChange(info: MachineInfo): void
  /** Called with each change while a machine is made for this task. */
  onStart(info: MachineInfo): void
  /** Called with words for people when one way did not work and the next is tried. */
  onProblem(message: string): Promise<void>
  timed<Result>(phase: string, action: () => Promise<Result>): Promise<Result>
}

/**
 * Finds a task its machine: the one that was kept of the task it goes on from, or a copy of that; else one that is ready; else a new one.
 * Rejects when no way works, or with the reason of the stop; nothing is left open then.
 */
export async function acquireMachine(options: AcquireOptions): Promise<Place> {
  const { origin, run } = options
  const ways = [...(origin === undefined ? [] : [() => fromKept(options, origin)]), () => fromPool(options)]
  for (const way of ways) {
    const place = await way()
    if (place !== undefined) return place
    run.stop.signal.throwIfAborted()
  }
  return created(options, {})
}

/** The kept machine of the task before, or a copy of it; undefined when the stored state has to do. */
async function fromKept(options: AcquireOptions, origin: Origin): Promise<Place | undefined> {
  const { services, run, onProblem } = options
  const { kept } = services
  const info = kept.of(origin.id)
  try {
    if (info !== undefined && run.request.fork === true) {
      return await created(options, { forkOf: info.id })
    }
    if (info !== undefined) {
      const place = await takenOver(options, info)
      return { ...place, hasState: true, keepUntil: info.keepUntil }
    }
  } catch (error) {
    run.stop.signal.throwIfAborted()
    if (!origin.hasState) throw error
    await onProblem(
      `The kept machine could not be used: ${toVivariumError(error).message} The stored state is used instead.`,
    )
  }
  if (origin.hasState) return undefined
  const message = `The machine of the task ${origin.id} is gone, and its workspace was not stored: there is nothing to go on from.`
  throw new VivariumError('conflict', message, { field: 'continues' })
}

/** One that can't be had stays what it was. */
async function takenOver(options: AcquireOptions, info: MachineInfo): Promise<Place> {
  const place = await assigned(options, info.id, 'kept machine')
  await options.services.kept.release(info.id)
  return place
}

async function fromPool(options: AcquireOptions): Promise<Place | undefined> {
  const { services, run, onProblem } = options
  const { machines, pool } = services
  const wish = wishOf(options)
  for (let tries = 0; tries < MAX_READY_TRIES; tries += 1) {
    const ready = pool.take(wish)
    if (ready === undefined) return undefined
    let problem = 'Claude Code, which waited in it, has ended.'
    try {
      const place = await assigned(options, ready.id, 'ready machine')
      if (ready.waiting === undefined || !(await hasSettled(ready.waiting.ended))) {
        return { ...place, waiting: ready.waiting }
      }
      await options.closeSession(place.session)
    } catch (error) {
      problem = toVivariumError(error).message
    }
    // Nobody else knows of it any more. One that is gone already needs no eviction.
    await machines.evict(ready.id, problem).catch(() => {})
    run.stop.signal.throwIfAborted()
    await onProblem(`A ready machine could not be used: ${problem}`)
  }
  return undefined
}

/**
 * What the task needs of a ready machine. A waiting agent has read its folder and its options already, so it is of use only to those that
 * bring neither.
 */
function wishOf({ services, run, origin }: AcquireOptions): ReadyWish {
  const { request, userId } = run
  const { memoryMib, vcpus, template = null, repo, uploadId, files, maxTurns, env = {}, model = null } = request
  const { greeting } = services.agents[request.agent]
  const credentialKind = services.gateway.credentialKind(userId)
  const bringsNothing =
    origin === undefined &&
    repo === undefined &&
    uploadId === undefined &&
    files.length === 0 &&
    maxTurns === undefined &&
    Object.keys(env).length === 0
  const canUseAgent = bringsNothing && greeting !== undefined && credentialKind !== undefined
  return { memoryMib, vcpus, template, agent: canUseAgent ? { model, credentialKind } : undefined }
}

/** A machine that is there already. */
function assigned(options: AcquireOptions, id: string, phase: string): Promise<Place> {
  const { services, run, onChange, timed } = options
  return withSession(options, id, onChange, (use) =>
    timed(phase, () => services.machines.assign(id, use, run.stop.signal)),
  )
}

/** A machine of its own. */
async function created(options: AcquireOptions, from: { forkOf?: string }): Promise<Place> {
  const { services, run, onStart, onChange } = options
  const { memoryMib, vcpus, template } = run.request
  const id = newId('vm')
  const onEach = (info: MachineInfo) => {
    onStart(info)
    onChange(info)
  }
  const source = { ...from, ...(template === undefined || from.forkOf !== undefined ? {} : { template }) }
  const place = await withSession(options, id, onEach, async (use) => {
    if (from.forkOf !== undefined) await services.kept.suspend(from.forkOf)
    return services.machines.create({ ...use, ...source, id, memoryMib, vcpus, signal: run.stop.signal })
  })
  return { ...place, hasState: from.forkOf !== undefined }
}

async function withSession(
  options: AcquireOptions,
  machineId: string,
  onChange: (info: MachineInfo) => void,
  start: (use: MachineUse) => Promise<Machine>,
): Promise<Place> {
  const { run, openSession, closeSession, onMachine } = options
  await onMachine(machineId)
  run.stop.signal.throwIfAborted()
  const session = openSession(machineId)
  try {
    const egress: MachineUse['egress'] = (socket) => session.accept(socket)
    const machine = await start({ userId: run.userId, taskId: run.id, egress, onChange })
    return { machine, session, waiting: undefined, hasState: false, keepUntil: null }
  } catch (error) {
    await closeSession(session)
    throw error
  }
}
