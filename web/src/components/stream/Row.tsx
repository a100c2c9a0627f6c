import type { ReactNode } from 'react'
import { clock } from '../../format.ts'

interface Props {
  at: string
  /** Belongs to a subagent. */
  inner: boolean
  /** Classes of the bar at the left, which carries the colour of the kind. */
  bar: string
  testId: string
  children: ReactNode
}

/** A block in the stream: its time in the margin, a bar in its colour, and what it says. */
export function Row({ at, inner, bar, testId, children }: Props) {
  return (
    <div
      data-testid={testId}
      className={`flex gap-3 px-3 py-1.5 sm:px-4 ${inner ? 'ml-3 border-l border-dashed border-edge sm:ml-20' : ''}`}
    >
      {!inner && (
        <time
          dateTime={at}
          className="mt-0.5 w-13 shrink-0 text-right font-mono text-2xs text-faint/70 tabular-nums max-sm:hidden"
        >
          {clock(at)}
        </time>
      )}
      <span className={`w-0.5 shrink-0 rounded-full ${bar}`} />
      <div className="min-w-0 flex-1">{children}</div>
    </div>
  )
}

/** A single subdued line. */
export function Line({
  at,
  inner,
  testId,
  className = 'text-faint',
  children,
}: Omit<Props, 'bar'> & { className?: string }) {
  return (
    <div
      data-testid={testId}
      className={`flex gap-3 px-3 py-0.5 text-xs sm:px-4 ${inner ? 'ml-3 sm:ml-20' : ''} ${className}`}
    >
      <time
        dateTime={at}
        className="w-13 shrink-0 text-right font-mono text-2xs/4.5 text-faint/70 tabular-nums max-sm:hidden"
      >
        {clock(at)}
      </time>
      <span className="w-0.5 shrink-0" />
      <div className="min-w-0 flex-1 guest-text">{children}</div>
    </div>
  )
}
