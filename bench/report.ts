/** One measured number beside the best this machine could do, both medians of the same run. */
export interface BenchRow {
  name: string
  /** Of all numbers of the row, e.g. `events/s`, `ms`. */
  unit: string
  measured: Spread
  floor: Spread
  /** What the floor is, in words. */
  floorIs: string
}

interface Spread {
  median: number
  lowest: number
  highest: number
}

/** A row of repeated measurements. Throws for an empty list. */
export function row(options: {
  name: string
  unit: string
  measured: number[]
  floor: number[]
  floorIs: string
}): BenchRow {
  return { ...options, measured: spread(options.measured), floor: spread(options.floor) }
}

function spread(values: number[]): Spread {
  return { median: median(values), lowest: Math.min(...values), highest: Math.max(...values) }
}

/** The middle value; of an even number, the mean of the middle two. Throws for an empty list. */
export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)]
  const lower = sorted[Math.ceil(sorted.length / 2) - 1]
  if (upper === undefined || lower === undefined) throw new RangeError('median of nothing')
  return (lower + upper) / 2
}

/** Prints rows as a Markdown table, ready for `docs/performance.md`: medians, the lowest and highest in brackets. */
export function printRows(rows: BenchRow[]): void {
  printTable([
    ['what', 'measured', 'floor', 'ratio', 'unit', 'the floor is'],
    ...rows.map((each) => [
      each.name,
      inWords(each.measured),
      inWords(each.floor),
      (each.measured.median / each.floor.median).toFixed(2),
      each.unit,
      each.floorIs,
    ]),
  ])
}

/** Prints a Markdown table; the first line is its head. */
export function printTable(table: string[][]): void {
  const columns = table[0]?.keys().toArray() ?? []
  const widths = columns.map((column) => Math.max(...table.map((line) => line[column]?.length ?? 0)))
  const lines = table.map((line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`)
  lines.splice(1, 0, `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`)
  console.log(lines.join('\n'))
}

function inWords({ median, lowest, highest }: Spread): string {
  return `${short(median)} (${short(lowest)}–${short(highest)})`
}

/** Three significant digits, thousands apart. */
export function short(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 3 })
}
