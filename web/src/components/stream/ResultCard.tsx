import type { TaskEvent } from '../../../../src/contracts/event.ts'
import { duration, usd } from '../../format.ts'
import { Icon } from '../Icon.tsx'
import { Prose } from './Prose.tsx'

type Result = Extract<TaskEvent, { type: 'result' }>

/** The agent's closing words, with what the run took. */
export function ResultCard({ event }: { event: Result }) {
  const took = [
    event.turns !== undefined && `${event.turns} ${event.turns === 1 ? 'turn' : 'turns'}`,
    event.durationMs !== undefined && duration(event.durationMs),
    event.reportedCostUsd !== undefined && usd(event.reportedCostUsd),
  ].filter((part) => part !== false)
  const look = event.isError ? 'border-bad/40 bg-bad/6' : 'border-good/40 bg-good/6'
  return (
    <div className={`rounded-md border ${look}`}>
      <p
        className={`flex flex-wrap items-center gap-x-2 px-3 pt-2 text-xs ${event.isError ? 'text-bad' : 'text-good'}`}
      >
        <Icon name={event.isError ? 'alert' : 'check'} />
        <span className="font-semibold">{event.isError ? 'Ended with an error' : 'Result'}</span>
        {event.subtype !== undefined && event.subtype !== 'success' && (
          <code className="font-mono guest-text">{event.subtype}</code>
        )}
        <span className="ml-auto text-soft tabular-nums">{took.join(' · ')}</span>
      </p>
      <div className="px-3 pt-1.5 pb-2.5">
        <Prose text={event.text} growing={false} />
      </div>
    </div>
  )
}
