import type { MachineInfo } from '../contracts/machine.ts'
import type { Phase, TaskStatus } from '../contracts/task.ts'
import { addTokens, NO_TOKENS } from '../contracts/usage.ts'
import type { EventLog } from '../events/types.ts'
import type { Machine } from '../machines/types.ts'
import type { Place } from './acquire.ts'
import { egressContext, usageEvent, type Egress } from './egress.ts'
import type { Halts } from './halts.ts'
import type { Recorder } from './recorder.ts'
import type { RunClock } from './run-clock.ts'
import type { JournaledRun } from './run-journal.ts'
import type { Run, RunServices } from './run.ts'
import type { StatusBoard } from './status-board.ts'

/** A run that another orchestrator has begun, and its machine, which is there. */
export interface TakenUp {
  journaled: JournaledRun
  machine: Machine
  /** As its row has them. */
  status: TaskStatus
  phases: Phase[]
}

/** The parts of a run that go on where they were. */
export interface RunParts {
  machines: RunServices['machines']
  stop: Run['stop']
  clock: RunClock
  board: StatusBoard
  egress: Egress
  halts: Halts
  recorder: Recorder
}

/** Goes on with the machine of a run that another orchestrator has begun. */
export async function takeUp({ journaled, machine, status }: TakenUp, parts: RunParts): Promise<Place> {
  const { machines, stop, clock, board, egress, halts, recorder } = parts
  const { keepUntil, wakeAt, ending } = journaled
  const { clockAt, ranMs } = journaled.clock
  clock.begin(ranMs + (clockAt === null ? 0 : Math.max(0, Date.now() - clockAt.getTime())))
  board.goOn(status, machine.id)
  const session = egress.open(machine.id)
  // What it has spent is part of how its end is judged, also where it asks for no more.
  await session.settled()
  const onChange = (info: MachineInfo) => {
    if (machine.crashed === undefined) halts.machineChanged(info)
  }
  await machines.rejoin(machine.id, { egress: (socket) => session.accept(socket), onChange })
  await recorder.log('info', 'The server was restarted; the task goes on where it was')
  if (machine.crashed !== undefined && ending === undefined) {
    const message = `The machine was lost while no server ran: ${machine.crashed}. What it had written is read from its disk.`
    stop.stop('interrupted', message)
  } else if (machine.info().state === 'suspended' && wakeAt !== null) {
    halts.sleepUntil(wakeAt)
  }
  return { machine, session, waiting: undefined, hasState: true, keepUntil }
}

/** Tells in a task's log of model requests that were counted but not told of before its orchestrator was killed. */
export async function tellUsage(
  { store, events, gateway }: Pick<RunServices, 'store' | 'gateway'> & { events: EventLog },
  taskId: string,
): Promise<void> {
  const records = await gateway.recordsOf(taskId)
  const told = new Set((await events.usage(taskId)).map(({ requestId }) => requestId))
  const missing = records.filter(({ requestId }) => !told.has(requestId)).map(usageEvent)
  if (missing.length > 0) await events.append(taskId, missing)
  const tokens = records.reduce(addTokens, NO_TOKENS)
  const costUsd = records.reduce((sum, record) => sum + (record.costUsd ?? 0), 0)
  await store.update(taskId, { ...tokens, costUsd })
}

/** Gives a kept machine of a previous orchestrator the way out again that its finished task had. */
export async function takeUpKept(
  services: Pick<RunServices, 'store' | 'gateway' | 'agents' | 'machines' | 'kept'>,
  { id: machineId, userId, taskId }: MachineInfo,
): Promise<void> {
  const { store, gateway, agents, machines, kept } = services
  if (taskId === null) return
  const { request } = await store.origin(userId, taskId)
  const session = gateway.open(egressContext(agents, { machineId, userId, taskId, request }))
  kept.add(machineId, session)
  await machines.rejoin(machineId, { egress: (socket) => session.accept(socket) })
}
