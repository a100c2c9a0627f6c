/** Line drawings on a 16 × 16 grid. */
const PATHS = {
  tasks: 'M3 4h10M3 8h10M3 12h6',
  machine: 'M2.5 3.5h11v7h-11zM6 13h4M8 10.5V13',
  usage: 'M3 13V8M8 13V3M13 13V6',
  key: 'M7.6 8.4 13 3M10.5 5.5l2 2M5.5 13.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6z',
  plus: 'M8 3v10M3 8h10',
  down: 'M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10',
  jump: 'M8 3v9M4 8.5 8 12.5l4-4',
  file: 'M4 1.5h5l3 3v10H4zM9 1.5v3h3',
  image: 'M2.5 3h11v10h-11zM2.5 11l3.5-3.5 3 3 2-2 2.5 2.5M10.5 6h.01',
  close: 'M4 4l8 8M12 4l-8 8',
  check: 'M3 8.5 6.5 12 13 4.5',
  globe: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM1.5 8h13M8 1.5c4 4.5 4 8.5 0 13-4-4.5-4-8.5 0-13z',
  branch: 'M5 2v12M5 10c5 0 6-1.5 6-5M3.5 2h3M3.5 14h3M9.5 5h3',
  terminal: 'M3 4.5 6.5 8 3 11.5M8 12h5',
  again: 'M13 3v3.5H9.5M13 6.5A5.5 5.5 0 1 0 13.5 9',
  stop: 'M4 4h8v8H4z',
  pause: 'M5.5 3.5v9M10.5 3.5v9',
  play: 'M5 3.5v9l7-4.5z',
  reply: 'M6 4 2.5 7.5 6 11M2.5 7.5H10a3.5 3.5 0 0 1 3.5 3.5v1.5',
  compare: 'M2.5 3h4.5v10H2.5zM9 3h4.5v10H9z',
  trash: 'M3 4.5h10M6.5 4V2.5h3V4M4.5 4.5l.5 9h6l.5-9',
  logout: 'M6.5 2.5h-4v11h4M6 8h7.5M10.5 5l3 3-3 3',
  alert: 'M8 2 1.5 13.5h13zM8 6.5V10M8 12h.01',
} as const

export type IconName = keyof typeof PATHS

/** A drawing beside a word, or alone in a button that has a label of its own; hidden from screen readers. */
export function Icon({ name, className = 'size-4' }: { name: IconName; className?: string }) {
  return (
    <svg viewBox="0 0 16 16" aria-hidden="true" className={`shrink-0 ${className}`} fill="none" stroke="currentColor">
      <path d={PATHS[name]} strokeWidth="1.4" strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  )
}

/** The sign of the product: a plant under a glass bell. */
export function Logo({ className = 'size-6' }: { className?: string }) {
  return <img src="/favicon.svg" alt="" className={className} />
}
