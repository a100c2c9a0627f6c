import type { MachineState } from '../../../src/contracts/machine.ts'
import type { TaskStatus } from '../../../src/contracts/task.ts'
import { STATUS_LABEL } from '../status.ts'

const COLOURS: Record<TaskStatus, string> = {
  queued: 'text-soft bg-soft/10',
  starting: 'text-accent bg-accent/12',
  running: 'text-good bg-good/12',
  waiting: 'text-warn bg-warn/12',
  collecting: 'text-cool bg-cool/12',
  succeeded: 'text-good bg-good/8',
  failed: 'text-bad bg-bad/12',
  cancelled: 'text-faint bg-faint/12',
  timed_out: 'text-bad bg-bad/12',
  over_budget: 'text-thinking bg-thinking/12',
  interrupted: 'text-warn bg-warn/12',
}

/** A dot that pulses while something is alive. */
function LiveDot() {
  return <span data-testid="live-dot" className="size-2 animate-live rounded-full bg-good" />
}

function Dot({ status }: { status: TaskStatus }) {
  if (status === 'running') return <LiveDot />
  const moves = status === 'starting' || status === 'collecting' || status === 'waiting'
  return <span className={`size-1.5 rounded-full bg-current ${moves ? 'animate-pulse' : 'opacity-80'}`} />
}

const CHIP = 'inline-flex h-6 items-center gap-2 whitespace-nowrap rounded-full px-2.5 text-xs font-medium'

/** A task's status in its colour. */
export function StatusChip({ status }: { status: TaskStatus }) {
  return (
    <span data-testid="task-status" data-status={status} className={`${CHIP} ${COLOURS[status]}`}>
      <Dot status={status} />
      {STATUS_LABEL[status]}
    </span>
  )
}

const MACHINE_COLOURS: Record<MachineState, string> = {
  booting: COLOURS.starting,
  ready: COLOURS.running,
  suspending: COLOURS.collecting,
  suspended: COLOURS.cancelled,
  resuming: COLOURS.starting,
  stopping: COLOURS.cancelled,
  gone: COLOURS.cancelled,
}

const RESTING: ReadonlySet<MachineState> = new Set(['ready', 'suspended', 'gone'])

/** A machine's state in its colour. */
export function MachineChip({ state }: { state: MachineState }) {
  return (
    <span data-state={state} className={`${CHIP} ${MACHINE_COLOURS[state]}`}>
      <span className={`size-1.5 rounded-full bg-current ${RESTING.has(state) ? '' : 'animate-pulse'}`} />
      {state}
    </span>
  )
}
