import type { UsageGrouping, UsageRow } from './usage.ts'

const NUMBERS = [
  'requests',
  'inputTokens',
  'outputTokens',
  'cacheReadTokens',
  'cacheWriteTokens',
  'costUsd',
  'incomplete',
  'unpriced',
] as const satisfies readonly (keyof UsageRow)[]

/** Usage rows as CSV (RFC 4180: CRLF after every line, a head first). */
export function usageCsv(rows: readonly UsageRow[], by: UsageGrouping, split?: UsageGrouping): string {
  const second = split === undefined || split === by ? [] : [split]
  const name = by === 'user' ? ['name'] : []
  const head = [by, ...name, ...second, ...NUMBERS]
  const lines = rows.map((row) => [
    cell(row.key),
    ...name.map(() => cell(row.name ?? '')),
    ...second.map(() => cell(row.split ?? '')),
    ...NUMBERS.map((field) => String(row[field])),
  ])
  return [head, ...lines].map((line) => `${line.join(',')}\r\n`).join('')
}

/** A model's name is whatever its API says; a spreadsheet must not take it for a formula. */
function cell(text: string): string {
  const inert = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert
}
