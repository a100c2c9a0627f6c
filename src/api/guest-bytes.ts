import { Readable } from 'node:stream'

/** Formats that a browser only ever decodes as pictures; SVG is not among them, since it can hold scripts. */
const RASTER = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif'])

const MEDIA_TYPE = /^[\w.+-]+\/[\w.+-]+(; ?charset=[\w-]+)?$/

/**
 * Headers for bytes that came out of a guest: nobody may run them in our origin. They are named as what they are, never
 * sniffed, sandboxed if shown at all, and saved instead of shown unless they are raster images.
 */
export function guestHeaders(mimeType: string, name: string): Record<string, string> {
  const type = MEDIA_TYPE.test(mimeType) ? mimeType : 'application/octet-stream'
  const shown = RASTER.has(type)
  return {
    'content-type': type.startsWith('text/') && !type.includes(';') ? `${type}; charset=utf-8` : type,
    'x-content-type-options': 'nosniff',
    'content-security-policy': "sandbox; default-src 'none'",
    'content-disposition': `${shown ? 'inline' : 'attachment'}; ${fileName(name)}`,
  }
}

/** `filename` for old clients, `filename*` (RFC 8187) for what ASCII can't say. */
function fileName(name: string): string {
  const ascii = name.replace(/[^\x20-\x7e]|["\\%]/g, '_')
  const encoded = encodeURIComponent(name.toWellFormed()).replace(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16)}`,
  )
  return `filename="${ascii}"; filename*=UTF-8''${encoded}`
}

/** A Node stream as a response body; a reader that leaves destroys it. */
export function webStream(body: Readable): ReadableStream<Uint8Array> {
  return Readable.toWeb(body)
}

/**
 * The byte range a request asks for (RFC 9110, 14.2), both ends inclusive. Undefined where the whole file is the answer:
 * no range, several, or an unknown unit.
 */
export function parseRange(
  header: string | undefined,
  size: number,
): { start: number; end: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '')
  const [first, last] = [match?.[1] ?? '', match?.[2] ?? '']
  if (first === '' && last === '') return undefined
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (first !== '' && last !== '' && Number(last) < Number(first)) return undefined
  return start >= size || start > end ? 'unsatisfiable' : { start, end }
}
