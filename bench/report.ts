/** One measured number. `floor` is the best this machine could do, measured in the same run; `ratio` is value / floor. */
export interface BenchRow {
  name: string
  /** Of `value` and `floor`, e.g. `events/s`, `ms`. */
  unit: string
  value: number
  /** Null where there is nothing to compare with. */
  floor: number | null
  ratio: number | null
  /** What we aim at, in words, e.g. `≥ 0.5 of the floor`. */
  target?: string
}

/** A row with its ratio filled in. */
export function row(name: string, unit: string, value: number, floor: number | null, target?: string): BenchRow {
  const ratio = floor === null ? null : value / floor
  return { name, unit, value, floor, ratio, ...(target === undefined ? {} : { target }) }
}

/** The middle value; of an even number, the mean of the middle two. Throws for an empty list. */
export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)]
  const lower = sorted[Math.ceil(sorted.length / 2) - 1]
  if (upper === undefined || lower === undefined) throw new RangeError('median of nothing')
  return (lower + upper) / 2
}

/** Prints rows as a Markdown table, ready for `docs/performance.md`. */
export function printRows(rows: BenchRow[]): void {
  const cells = rows.map((r) => [
    r.name,
    `${short(r.value)} ${r.unit}`,
    r.floor === null ? '–' : `${short(r.floor)} ${r.unit}`,
    r.ratio === null ? '–' : r.ratio.toFixed(2),
    r.target ?? '–',
  ])
  const table = [['what', 'measured', 'floor', 'ratio', 'target'], ...cells]
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...table.map((line) => (line[column] ?? '').length)))
  const lines = table.map((line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`)
  lines.splice(1, 0, `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`)
  console.log(lines.join('\n'))
}

/** Three significant digits, thousands apart. */
function short(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 3 })
}
