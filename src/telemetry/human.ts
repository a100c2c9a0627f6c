import { styleText } from 'node:util'

const LEVEL_STYLE = { debug: 'gray', info: 'green', warn: 'yellow', error: 'red' } as const

type Level = keyof typeof LEVEL_STYLE

/** A JSON log line as people read it: `18:32:01.123 INFO ready port=8080`, an error's stack indented below. */
export function formatForPeople(line: string, colour: boolean): string {
  const { level, time, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    colour ? styleText(style, text, { validateStream: false }) : text
  const name = isLevel(level) ? level : 'info'
  const details = Object.entries(fields).map(([key, value]) => paint('gray', `${key}=${printable(compact(value))}`))
  const head = [
    paint('gray', String(time).slice(11, 23)),
    paint(LEVEL_STYLE[name], name.toUpperCase().padEnd(5)),
    printable(String(msg ?? '')),
  ]
  return `${[...head, ...details].join(' ')}\n${indented(err)}`
}

function isLevel(value: unknown): value is Level {
  return typeof value === 'string' && Object.hasOwn(LEVEL_STYLE, value)
}

/** Plain words stay bare; everything else is JSON, so that a value can't pass for the next field. */
function compact(value: unknown): string {
  return typeof value === 'string' && /^[\w./:@-]+$/.test(value) ? value : JSON.stringify(value)
}

function indented(err: unknown): string {
  if (err === undefined) return ''
  const stack = typeof err === 'object' && err !== null && 'stack' in err ? String(err.stack) : compact(err)
  return stack
    .split('\n')
    .map((line) => `    ${printable(line)}\n`)
    .join('')
}

/** Control characters escaped: text from a guest must not drive the terminal of whoever reads the log. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
