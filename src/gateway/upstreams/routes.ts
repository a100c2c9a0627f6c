import type { RouteRule } from '../../contracts/network.ts'

/** A path in the two readings that servers differ in: `%2F` as part of a name, and as a slash. */
export interface ReadPath {
  /** As it was sent, without the query. */
  raw: string[]
  /** Decoded, with `%2F` taken as a slash. */
  decoded: string[]
}

/**
 * Reads the path of a request into its segments. Undefined for one that could mean another path to the server than to us: dot
 * segments, empty ones, backslashes, controls, and any of them in disguise (encoded once or twice, or before a `;`).
 */
export function readPath(path: string): ReadPath | undefined {
  const [raw = ''] = path.split('?')
  if (!/^\/[\x21-\x7e]*$/.test(path) || /[\\#]/.test(path)) return undefined
  let decoded: string
  try {
    decoded = decodeURIComponent(raw)
  } catch {
    return undefined
  }
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\\\x00-\x1f\x7f]|%(?:2e|2f|5c|25|00)/i.test(decoded)) return undefined
  const readings = { raw: raw.slice(1).split('/'), decoded: decoded.slice(1).split('/') }
  return [readings.raw, readings.decoded].every(isPlain) ? readings : undefined
}

/** Whether no segment but the last is empty, and none is a dot segment. */
function isPlain(segments: string[]): boolean {
  return segments.every((segment, index) => {
    const name = segment.split(';')[0]
    return name !== '.' && name !== '..' && (segment !== '' || index === segments.length - 1)
  })
}

/** Whether a request is among those that the rules describe, in both readings of its path. */
export function isRouted(rules: readonly RouteRule[], method: string, path: ReadPath): boolean {
  return rules.some(
    (rule) => (rule.method === '*' || rule.method === method) && [path.raw, path.decoded].every(matcher(rule.path)),
  )
}

function matcher(pattern: string): (segments: string[]) => boolean {
  const parts = pattern.slice(1).split('/')
  const isOpen = parts.at(-1) === '**'
  const fixed = isOpen ? parts.slice(0, -1) : parts
  return (segments) =>
    (isOpen ? segments.length > fixed.length : segments.length === fixed.length) &&
    fixed.every((part, index) => isSegment(part, segments[index] ?? ''))
}

/** `*` is any segment that is not empty; within a part it is any run of characters. */
function isSegment(part: string, segment: string): boolean {
  if (segment === '' && part !== '') return false
  const [head = '', ...rest] = part.split('*')
  if (rest.length === 0) return part === segment
  const tail = rest.at(-1) ?? ''
  if (!segment.startsWith(head) || !segment.endsWith(tail) || segment.length < head.length + tail.length) return false
  let at = head.length
  for (const middle of rest.slice(0, -1)) {
    const found = segment.indexOf(middle, at)
    if (found === -1) return false
    at = found + middle.length
  }
  return at <= segment.length - tail.length
}
