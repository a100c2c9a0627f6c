/** Raster images, told by their first bytes: only these are ever shown inline, so a name alone does not make one. */
const MAGIC: [mimeType: string, matches: (head: Buffer) => boolean][] = [
  ['image/png', (head) => head.subarray(0, 8).equals(Buffer.from('89504e470d0a1a0a', 'hex'))],
  ['image/jpeg', (head) => head.subarray(0, 3).equals(Buffer.from('ffd8ff', 'hex'))],
  ['image/gif', (head) => /^GIF8[79]a/.test(head.toString('latin1', 0, 6))],
  ['image/webp', (head) => /^RIFF[^]{4}WEBP/.test(head.toString('latin1', 0, 12))],
  ['image/avif', (head) => /^[^]{4}ftypavi[fs]/.test(head.toString('latin1', 0, 12))],
]

const BY_EXTENSION: Record<string, string> = {
  css: 'text/css',
  csv: 'text/csv',
  gz: 'application/gzip',
  htm: 'text/html',
  html: 'text/html',
  js: 'text/javascript',
  json: 'application/json',
  md: 'text/markdown',
  mjs: 'text/javascript',
  pdf: 'application/pdf',
  svg: 'image/svg+xml',
  tar: 'application/x-tar',
  toml: 'application/toml',
  tsv: 'text/tab-separated-values',
  wasm: 'application/wasm',
  xml: 'application/xml',
  yaml: 'application/yaml',
  yml: 'application/yaml',
  zip: 'application/zip',
}

/** As many bytes of a file as `mimeType` looks at. */
export const HEAD_BYTES = 512

/** The type of a file by its name and first bytes. Text of no known name is `text/plain`. */
export function mimeType(path: string, head: Buffer): string {
  const image = MAGIC.find(([, matches]) => matches(head))
  if (image !== undefined) return image[0]
  const name = path.slice(path.lastIndexOf('/') + 1)
  const extension = name.includes('.') ? name.slice(name.lastIndexOf('.') + 1).toLowerCase() : ''
  const known = Object.hasOwn(BY_EXTENSION, extension) ? BY_EXTENSION[extension] : undefined
  return known ?? (looksLikeText(head) ? 'text/plain' : 'application/octet-stream')
}

function looksLikeText(head: Buffer): boolean {
  if (head.includes(0)) return false
  // A character may be cut in two at the end of the head, hence `stream`.
  const text = new TextDecoder('utf-8').decode(head, { stream: true })
  return !text.includes('\uFFFD')
}
