import type { LineReading } from './claude-events.ts'
import { readClaudeLine } from './claude-events.ts'

/**
 * What is parsed must be fit to be passed on: whoever stores an event calls `JSON.stringify`, which recurses, and a line
 * of brackets becomes millions of objects. No real line comes near these bounds.
 */
const MAX_DEPTH = 200
const MAX_NODES = 200_000

/** One line of output as events. Never throws: what is not understood becomes `raw`. Broken UTF-8 is replaced. */
export function parseLine(bytes: Uint8Array): LineReading {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes).replace(/\r$/, '')
  if (text.trim() === '') return { events: [], facts: [] }
  const value = parseJson(text)
  const reading = value !== undefined && isTame(value) ? readClaudeLine(value) : undefined
  return reading ?? rawLine(text)
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

/** Whether a parsed value is neither deep nor made of very many parts. Iterative, so that a deep one can't overflow it. */
function isTame(value: unknown): boolean {
  let level: unknown[] = [value]
  let nodes = 0
  for (let depth = 0; level.length > 0; depth += 1) {
    nodes += level.length
    if (depth > MAX_DEPTH || nodes > MAX_NODES) return false
    const next: unknown[] = []
    for (const node of level) {
      if (typeof node !== 'object' || node === null) continue
      for (const child of Object.values(node)) next.push(child)
    }
    level = next
  }
  return true
}
