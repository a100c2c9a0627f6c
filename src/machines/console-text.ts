import { stripVTControlCharacters } from 'node:util'

const MAX_LINE_CHARS = 200

/**
 * The last lines of a guest's console in a form that is safe to show: no control characters, lines cut, empty ones left
 * out, joined by ` | `. A guest writes what it likes there.
 */
export function lastLines(console: string, count: number): string {
  return stripVTControlCharacters(console)
    .split(/[\r\n]+/)
    .map((line) => line.replaceAll(/\p{C}/gu, '').trim())
    .filter((line) => line !== '')
    .slice(-count)
    .map((line) => line.slice(0, MAX_LINE_CHARS))
    .join(' | ')
}
