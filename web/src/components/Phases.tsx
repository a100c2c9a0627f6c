import { duration } from '../format.ts'
import { useNow } from '../hooks.ts'
import { withPlaces } from '../places.ts'

interface Props {
  done: readonly { name: string; ms: number }[]
  /** The step that is still running, since when in ms since the epoch. */
  current?: { name: string; since: number } | undefined
}

const COLOURS = ['bg-[#8a5a33]', 'bg-[#b3692f]', 'bg-[#d97a35]', 'bg-accent', 'bg-[#ffab73]', 'bg-[#ffc9a3]']

/** The steps of a start: a bar in which each takes its share of the time, and their names and times below. */
export function Phases({ done, current }: Props) {
  const now = useNow(200, current !== undefined)
  const steps = [...done, ...(current ? [{ name: current.name, ms: Math.max(0, now - current.since) }] : [])]
  const total = steps.reduce((sum, step) => sum + step.ms, 0)
  const colour = (place: number) => COLOURS[place % COLOURS.length] ?? ''
  return (
    <div data-testid="phases">
      <div className="flex h-1.5 gap-px overflow-hidden rounded-full bg-raised" aria-hidden="true">
        {withPlaces(steps).map(({ place, item: step }) => (
          <span
            key={place}
            className={`${colour(place)} ${current && place === steps.length - 1 ? 'animate-pulse' : ''} min-w-px`}
            style={{ flexGrow: step.ms / (total || 1), flexBasis: 0 }}
          />
        ))}
      </div>
      <ol className="mt-2 grid grid-cols-[repeat(auto-fill,minmax(8.25rem,1fr))] gap-x-4 gap-y-0.5 text-xs text-faint">
        {withPlaces(steps).map(({ place, item: step }) => (
          <li key={place} className="flex items-center gap-1.5">
            <span className={`size-1.5 rounded-full ${colour(place)}`} />
            <span className="text-soft">{step.name}</span>
            <span className="tabular-nums">{duration(step.ms)}</span>
          </li>
        ))}
      </ol>
    </div>
  )
}
