import type { LineReading } from './claude-events.ts'
import { readClaudeLine } from './claude-events.ts'
import { isWithinBounds } from './json-bounds.ts'

/** One line of output as events. Never throws: what is not understood becomes `raw`. Broken UTF-8 is replaced. */
export function parseLine(bytes: Uint8Array): LineReading {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes).replace(/\r$/, '')
  if (text.trim() === '') return { events: [], facts: [] }
  const value = isWithinBounds(bytes) ? parseJson(text) : undefined
  return (value === undefined ? undefined : readClaudeLine(value)) ?? rawLine(text)
}

/** A line kept as it came. */
export function rawLine(text: string): LineReading {
  return { events: [{ type: 'raw', text }], facts: [] }
}

function parseJson(text: string): unknown {
  // Everything we understand is an object; this spares the parser most plain text.
  if (!text.trimStart().startsWith('{')) return undefined
  try {
    return JSON.parse(text)
  } catch {
    // Not JSON: a plain line of text among the events, kept as it is.
    return undefined
  }
}
