/** How numbers, times and texts are written. Pure functions. */

/** `1.4 MB`, decimal units. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = count
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** Guest memory: `2 GiB`, `512 MiB`. */
export function mebibytes(mib: number): string {
  return mib >= 1024 && mib % 512 === 0 ? `${mib / 1024} GiB` : `${mib} MiB`
}

/** `840 ms`, `12.4 s`, `3m 07s`, `2h 05m`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}m ${String(seconds % 60).padStart(2, '0')}s`
  return `${Math.floor(minutes / 60)}h ${String(minutes % 60).padStart(2, '0')}m`
}

/** `just now`, `5m ago`, `3h ago`, `2d ago`. */
export function age(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  if (seconds < 10) return 'just now'
  if (seconds < 60) return `${seconds}s ago`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ago`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ago`
  return `${Math.floor(seconds / 86_400)}d ago`
}

/** Time that is left: `45s`, `12m`, `3h`, `2d`. */
export function remaining(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.round(seconds / 60)}m`
  if (seconds < 86_400) return `${Math.round(seconds / 3600)}h`
  return `${Math.round(seconds / 86_400)}d`
}

/** US dollars; small amounts keep four places, as one request may cost a fraction of a cent. */
export function usd(amount: number): string {
  if (amount === 0) return '$0'
  return `$${amount.toFixed(amount < 0.1 ? 4 : 2)}`
}

/** `950`, `12.3k`, `4.1M`. */
export function count(value: number): string {
  if (value < 1000) return String(value)
  if (value < 999_950) return `${(value / 1000).toFixed(value < 99_950 ? 1 : 0)}k`
  return `${(value / 1_000_000).toFixed(1)}M`
}

/** Time of day, `14:03:07`. */
export function clock(iso: string): string {
  return new Date(iso).toLocaleTimeString('en-GB')
}

/** The first words of a text on one line. */
export function excerpt(text: string, length: number): string {
  const line = text
    .slice(0, length * 4)
    .replace(/\s+/g, ' ')
    .trim()
  return line.length > length ? `${line.slice(0, length)}…` : line
}

const ESC = String.fromCharCode(27)
const BELL = String.fromCharCode(7)
/** Colours and cursor movements (CSI), titles and links (OSC), single-character functions: ECMA-48, section 5. */
const ANSI = new RegExp(
  `${ESC}(?:\\[[0-?]*[ -/]*[@-~]|\\][^${BELL}${ESC}]{0,4096}(?:${BELL}|${ESC}\\\\)|[@-Z\\\\^_])`,
  'g',
)

/** The text without terminal escape sequences. */
export function plain(text: string): string {
  return text.includes(ESC) ? text.replace(ANSI, '') : text
}

const RASTER = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif', 'image/bmp'])

/** Whether an image of this type is shown: raster formats only, SVG is a document. */
export function isRaster(mimeType: string): boolean {
  return RASTER.has(mimeType.toLowerCase())
}
