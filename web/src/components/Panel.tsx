import type { ReactNode } from 'react'

/** A titled box of the side column. `aside` stands at the right of the title. */
export function Panel({ title, aside, children }: { title: string; aside?: ReactNode; children: ReactNode }) {
  return (
    <section className="overflow-hidden rounded-lg border border-line bg-panel">
      <header className="flex min-h-9 items-center justify-between gap-2 border-b border-line px-3 py-1">
        <h2 className="text-2xs font-semibold tracking-wider text-faint uppercase">{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  )
}

/** Names and values, one pair a line. */
export function Facts({ rows }: { rows: readonly (readonly [string, ReactNode])[] }) {
  return (
    <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1 px-3 py-2.5 text-[13px]">
      {rows.map(([name, value]) => (
        <div key={name} className="contents">
          <dt className="text-faint">{name}</dt>
          <dd className="min-w-0 text-right tabular-nums [overflow-wrap:anywhere]">{value}</dd>
        </div>
      ))}
    </dl>
  )
}
