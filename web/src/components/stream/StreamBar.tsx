import { count, duration } from '../../format.ts'
import { useNow } from '../../hooks.ts'
import type { StreamState } from '../../stream.ts'

function Retry({ retryAt, retry }: { retryAt: number; retry: () => void }) {
  const now = useNow(500)
  return (
    <>
      Connection lost. Trying again in {duration(Math.ceil(Math.max(0, retryAt - now) / 1000) * 1000).replace('.0', '')}
      .{' '}
      <button type="button" onClick={retry} className="text-accent hover:underline">
        Try now
      </button>
    </>
  )
}

function State({ state, retry }: { state: StreamState; retry: () => void }) {
  switch (state.name) {
    case 'connecting':
      return 'Connecting…'
    case 'live':
      return 'Live'
    case 'ended':
      return 'Complete'
    case 'lost':
      return <Retry retryAt={state.retryAt} retry={retry} />
  }
}

const DOTS: Record<StreamState['name'], string> = {
  connecting: 'bg-warn animate-pulse',
  live: 'bg-good',
  ended: 'bg-faint',
  lost: 'bg-bad animate-pulse',
}

interface Props {
  state: StreamState
  retry: () => void
  lastSeq: number
  details: boolean
  onDetails: (details: boolean) => void
}

/** Below the stream: how its connection does, and whether details are shown. */
export function StreamBar({ state, retry, lastSeq, details, onDetails }: Props) {
  return (
    <div className="flex shrink-0 items-center gap-4 border-t border-line bg-panel px-4 py-1.5 text-xs text-faint">
      <span data-testid="stream-state" data-state={state.name} role="status" className="flex items-center gap-2">
        <span className={`size-1.5 rounded-full ${DOTS[state.name]}`} />
        <span>
          <State state={state} retry={retry} />
        </span>
      </span>
      <span className="ml-auto tabular-nums max-sm:hidden">{count(lastSeq)} events</span>
      <label className="flex cursor-pointer items-center gap-1.5 hover:text-fg max-sm:ml-auto">
        <input
          type="checkbox"
          data-testid="toggle-debug"
          checked={details}
          onChange={(event) => onDetails(event.target.checked)}
          className="accent-accent"
        />
        Debug
      </label>
    </div>
  )
}
