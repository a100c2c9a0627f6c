import type { Task } from '../../../../src/contracts/task.ts'
import type { Facts } from '../../facts.ts'
import { duration } from '../../format.ts'
import { Panel } from '../Panel.tsx'
import { Phases } from '../Phases.tsx'

/** Where the time of the start went: as measured on the host, or, until that is known, as the events tell. */
export function StartPanel({ task, facts }: { task: Task; facts: Facts }) {
  const running = task.status === 'starting' ? facts.steps.find((step) => step.end === undefined) : undefined
  const seen = facts.steps.flatMap((step) =>
    step.end === undefined ? [] : [{ name: step.name, ms: step.end - step.begin }],
  )
  const done = task.status !== 'starting' && task.phases.length > 0 ? task.phases : seen
  if (done.length === 0 && !running) return null
  const total = done.reduce((sum, step) => sum + step.ms, 0)
  return (
    <Panel title="Time" aside={!running && <span className="text-xs text-faint tabular-nums">{duration(total)}</span>}>
      <div className="px-3 py-3">
        <Phases done={done} current={running && { name: running.name, since: running.begin }} />
        {running?.message !== undefined && !running.message.endsWith(running.name) && (
          <p className="mt-1.5 text-xs text-faint guest-text">{running.message}</p>
        )}
      </div>
    </Panel>
  )
}
