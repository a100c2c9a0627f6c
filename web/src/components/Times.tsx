import { age, duration, remaining } from '../format.ts'
import { useNow } from '../hooks.ts'

/** How long ago something was, kept up to date. */
export function Age({ at }: { at: string }) {
  const now = useNow(5000)
  return (
    <time dateTime={at} title={new Date(at).toLocaleString()}>
      {age(Math.max(0, now - Date.parse(at)))}
    </time>
  )
}

/** The time from `from` to `to`, in ms since the epoch; to now, and counting, where there is no `to`. */
export function Elapsed({ from, to }: { from: number; to: number | undefined }) {
  const now = useNow(200, to === undefined)
  return <span className="tabular-nums">{duration(Math.max(0, (to ?? Math.max(now, from)) - from))}</span>
}

/** How long it is until something will be, kept up to date. */
export function Until({ at }: { at: string }) {
  const now = useNow(5000)
  return (
    <time dateTime={at} title={new Date(at).toLocaleString()}>
      {remaining(Date.parse(at) - now)}
    </time>
  )
}
